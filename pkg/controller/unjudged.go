package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/gap"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/timing"
)

const (
	// maxUnjudged bounds the objects that are listed.
	maxUnjudged = 500
	// looksPerRound bounds how many objects are read for claims in one round, and
	// strangersPerRound how many kinds that are not served are asked for: anybody can
	// have a webhook claim something. Kinds that are known to be served are looked for
	// all the same.
	looksPerRound, strangersPerRound = 300, 20
	// againPerRound is how many of those listed are looked at again in a round.
	againPerRound = 20
)

// Reviewer judges an object by all constraints.
type Reviewer interface {
	Review(ctx context.Context, r *policy.Review) policy.Result
}

// Namespaces finds the namespace that an object lives in.
type Namespaces interface {
	Namespace(ctx context.Context, name string) policy.Namespace
}

// UnjudgedOptions are what an Unjudged needs.
type UnjudgedOptions struct {
	// Cached reads presence Leases, and Live objects.
	Cached, Live client.Reader
	// Namespace is where the Leases are.
	Namespace  string
	Reviewer   Reviewer
	Namespaces Namespaces
	Timings    timing.Timings
	Log        logr.Logger
}

// Unjudged looks at what webhooks say that they left unjudged: it judges each object
// at once, before audit comes to it, and keeps a list of those that are there. It runs
// on the leader.
type Unjudged struct {
	o UnjudgedOptions

	mu     sync.Mutex
	known  map[types.UID]v1alpha1.UnjudgedObject
	looked map[types.UID]time.Time // at claims, and when
	served map[schema.GroupKind]bool
	at     int // of those listed: who is looked at again next
}

// NewUnjudged returns an Unjudged that knows of nothing.
func NewUnjudged(o UnjudgedOptions) *Unjudged {
	return &Unjudged{o: o, known: map[types.UID]v1alpha1.UnjudgedObject{}, looked: map[types.UID]time.Time{}, served: map[schema.GroupKind]bool{}}
}

// NeedLeaderElection is true: the leader lists them.
func (u *Unjudged) NeedLeaderElection() bool { return true }

// Start looks until ctx ends. It begins with what an earlier leader has listed.
func (u *Unjudged) Start(ctx context.Context) error {
	if err := u.recall(ctx); err != nil && ctx.Err() == nil {
		u.o.Log.Error(err, "what was listed as unjudged is not known")
	}
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := u.look(ctx); err != nil && ctx.Err() == nil {
			u.o.Log.Error(err, "not all that was left unjudged was looked at")
		}
	}, u.o.Timings.Filled().PresenceRenew)
	return nil
}

func (u *Unjudged) recall(ctx context.Context) error {
	report := &unstructured.Unstructured{}
	report.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.AuditReportKind))
	err := u.o.Live.Get(ctx, client.ObjectKey{Name: v1alpha1.AuditReportName}, report)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the audit's report: %w", err)
	}
	var was struct {
		Status struct {
			Unjudged []v1alpha1.UnjudgedObject `json:"unjudged"`
		} `json:"status"`
	}
	status := map[string]any{"status": report.Object["status"]}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(status, &was); err != nil {
		return fmt.Errorf("reading the audit's report: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, x := range was.Status.Unjudged {
		u.known[types.UID(x.UID)] = x
	}
	return nil
}

// look reads what the Leases claim, and judges what of it is new.
func (u *Unjudged) look(ctx context.Context) error {
	leases := &coordinationv1.LeaseList{}
	err := u.o.Cached.List(ctx, leases, client.InNamespace(u.o.Namespace), client.MatchingLabels{v1alpha1.LabelPresence: "true"})
	if err != nil {
		return fmt.Errorf("listing presence Leases: %w", err)
	}
	var first error
	looks, strangers := 0, 0
	for i := range leases.Items {
		claims, err := gap.Read(leases.Items[i].Annotations)
		first = cmp.Or(first, err)
		for _, p := range claims {
			if looks >= looksPerRound || ctx.Err() != nil {
				return first
			}
			kind := p.GroupVersionKind().GroupKind()
			if !u.isNew(p) || strangers >= strangersPerRound && !u.served[kind] {
				continue
			}
			looks++
			switch err := u.lookAt(ctx, p); {
			case meta.IsNoMatchError(err):
				strangers++
			case err != nil:
				first = cmp.Or(first, err)
			default:
				u.served[kind] = true // there are as many as the cluster has
			}
		}
	}
	return cmp.Or(first, u.again(ctx))
}

// isNew tells whether a claim was not looked at, or before the object was stored: the
// webhook answers before that.
func (u *Unjudged) isNew(p gap.Passed) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.known[p.UID]; known {
		return false
	}
	at, looked := u.looked[p.UID]
	return !looked || at.Sub(time.Unix(p.At, 0)) < u.o.Timings.Filled().PresenceRenew
}

// lookAt judges the object that was claimed, if it is there.
func (u *Unjudged) lookAt(ctx context.Context, p gap.Passed) error {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(p.GroupVersionKind())
	err := u.o.Live.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: p.Name}, object)
	switch gone := apierrors.IsNotFound(err) || err == nil && object.GetUID() != p.UID; {
	case gone:
		u.note(p, nil)
		return nil
	case meta.IsNoMatchError(err):
		u.note(p, nil)
		return err
	case err != nil:
		return fmt.Errorf("reading %s %s/%s, which was not judged: %w", p.Kind, p.Namespace, p.Name, err)
	}
	u.note(p, &v1alpha1.UnjudgedObject{
		Group: p.Group, Version: p.Version, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name, UID: string(p.UID),
		Time: metav1.NewTime(time.Unix(p.At, 0).UTC()), Violates: u.judge(ctx, object),
	})
	return nil
}

// note remembers that a claim was looked at, and what is there, which is nil if it is
// nothing.
func (u *Unjudged) note(p gap.Passed, there *v1alpha1.UnjudgedObject) {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.looked, func(_ types.UID, at time.Time) bool { return now.Sub(at) > time.Hour })
	u.looked[p.UID] = now
	if there == nil {
		delete(u.known, p.UID)
		return
	}
	u.known[p.UID] = *there
	if len(u.known) > maxUnjudged {
		delete(u.known, types.UID(u.least().UID))
	}
}

// least is who makes room in the list: the oldest of those that break no policy, so
// that others cannot push out one that does.
func (u *Unjudged) least() v1alpha1.UnjudgedObject {
	all := u.sorted()
	for _, x := range slices.Backward(all) {
		if len(x.Violates) == 0 {
			return x
		}
	}
	return all[len(all)-1]
}

// judge reviews an object as audit does.
func (u *Unjudged) judge(ctx context.Context, object *unstructured.Unstructured) (violates []string) {
	r := &policy.Review{
		Kind: object.GroupVersionKind(), Name: object.GetName(), Namespace: object.GetNamespace(), Object: object.Object,
		Source: policy.SourceOriginal, Point: policy.PointAudit,
	}
	if r.Namespace != "" {
		r.NamespaceObject = u.o.Namespaces.Namespace(ctx, r.Namespace)
	}
	for _, v := range u.o.Reviewer.Review(ctx, r).Violations {
		violates = append(violates, v.Constraint.String())
	}
	slices.Sort(violates)
	return slices.Compact(violates)
}

// again looks at some of those listed, of which some may be gone or mended.
func (u *Unjudged) again(ctx context.Context) error {
	u.mu.Lock()
	all := u.sorted()
	u.mu.Unlock()
	for range min(againPerRound, len(all)) {
		u.at++
		x := all[u.at%len(all)]
		err := u.lookAt(ctx, gap.Passed{
			Group: x.Group, Version: x.Version, Kind: x.Kind, Namespace: x.Namespace, Name: x.Name, UID: types.UID(x.UID), At: x.Time.Unix(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// List returns what is there, the latest first.
func (u *Unjudged) List() []v1alpha1.UnjudgedObject {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sorted()
}

func (u *Unjudged) sorted() []v1alpha1.UnjudgedObject {
	var out []v1alpha1.UnjudgedObject
	for _, x := range u.known {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b v1alpha1.UnjudgedObject) int {
		return cmp.Or(b.Time.Compare(a.Time.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return out
}
