package app

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/fusegate/fusegate/pkg/audit"
)

const (
	// newsEvery is how often there may be an Event about one constraint.
	newsEvery = time.Minute
	// newsRate and newsBurst bound the Events about all of them, in a second.
	newsRate, newsBurst = 1, 25
)

// auditNews tells by Events on a constraint when its total leaves zero and when
// it is there again. What comes too soon is told later, if it is still so.
type auditNews struct {
	recorder events.EventRecorder
	limit    *rate.Limiter

	mu sync.Mutex
	// said is what was last told, or what the status said when it was first
	// seen, by constraint.
	said map[string]said
}

type said struct {
	uid      types.UID
	violated bool
	at       time.Time
}

func newAuditNews(recorder events.EventRecorder) *auditNews {
	return &auditNews{recorder: recorder, limit: rate.NewLimiter(newsRate, newsBurst), said: map[string]said{}}
}

// constraintKey is as policy.Constraint writes it.
func constraintKey(u *unstructured.Unstructured) string { return u.GetKind() + "/" + u.GetName() }

// meet notes what the status of a constraint says before it is written for the
// first time. What another leader has told is not told again.
func (n *auditNews) meet(u *unstructured.Unstructured) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.said[constraintKey(u)].uid == u.GetUID() {
		return
	}
	total, _, _ := unstructured.NestedInt64(u.Object, "status", "totalViolations")
	n.said[constraintKey(u)] = said{uid: u.GetUID(), violated: total > 0}
}

// tell emits an Event if there is news, and if it is time for it.
func (n *auditNews) tell(u *unstructured.Unstructured, o *audit.Outcome) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, now := n.said[constraintKey(u)], o.Total > 0
	if before.violated == now || now && len(o.Violations) == 0 || time.Since(before.at) < newsEvery || !o.Complete && !now || !n.limit.Allow() {
		return
	}
	n.said[constraintKey(u)] = said{uid: u.GetUID(), violated: now, at: time.Now()}
	if now {
		first := o.Violations[0]
		n.recorder.Eventf(u, nil, corev1.EventTypeWarning, "Violated", "Audit", "%d violations exist, the first by %s %s: %s",
			o.Total, first.Kind, types.NamespacedName{Namespace: first.Namespace, Name: first.Name}, first.Message)
		return
	}
	n.recorder.Eventf(u, nil, corev1.EventTypeNormal, "NotViolated", "Audit", "no violations exist any more")
}

// forget drops constraints that are gone.
func (n *auditNews) forget(present map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.said, func(key string, _ said) bool { return !present[key] })
}
