package audit

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// namespaces knows every Namespace, since policies match by their labels and
// may read them.
type namespaces struct {
	a      *Auditor
	source source
	listed chan struct{}
	once   sync.Once
	lost   chan error // the right to read them is gone

	// blind is since when changes may be missed, the zero time if none are, and
	// why; blindSaid tells whether the outcomes say so. They are guarded by the
	// Auditor's lock.
	blind     time.Time
	why       error
	blindSaid bool

	mu     sync.Mutex
	byName map[string]*knownNamespace
	// missed are those that a review looked for in vain.
	missed map[string]bool
	// problem is why they cannot be read.
	problem error
}

// namespaceKind is that of Namespaces.
var namespaceKind = schema.GroupKind{Kind: "Namespace"}

// knownNamespace is a Namespace as of one time. It never changes: a change is
// another one.
type knownNamespace struct{ object map[string]any }

func newNamespaces(a *Auditor) *namespaces {
	r := resource{
		gvr: corev1.SchemeGroupVersion.WithResource("namespaces"), gvk: corev1.SchemeGroupVersion.WithKind("Namespace"), watched: true,
	}
	return &namespaces{
		a: a, source: source{a: a, resource: r}, listed: make(chan struct{}), lost: make(chan error, 1),
		byName: map[string]*knownNamespace{}, missed: map[string]bool{},
	}
}

// get returns a namespace, nil if it is not known.
func (n *namespaces) get(name string) *knownNamespace {
	if name == "" {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	found := n.byName[name]
	if found == nil {
		n.missed[strings.Clone(name)] = true
	}
	return found
}

// troubled notes why namespaces cannot be read, or that they have been. Without
// the right to read them, or if they cannot be for long, what does not look at
// them is audited all the same.
func (n *namespaces) troubled(err error) {
	if err != nil && !lasting(err) && !n.blindForLong() {
		return
	}
	n.mu.Lock()
	n.problem = err
	n.mu.Unlock()
	n.a.stir()
	n.once.Do(func() { close(n.listed) })
}

// missing notes that changes are missed from now on.
func (n *namespaces) missing(err error) {
	n.a.mu.Lock()
	defer n.a.mu.Unlock()
	if n.blind.IsZero() {
		n.blind = n.a.o.Clock.Now()
	}
	n.why, n.a.stirred = err, true
}

// followed notes that changes are seen again.
func (n *namespaces) followed() {
	n.a.mu.Lock()
	defer n.a.mu.Unlock()
	said := n.blindSaid
	n.blind, n.why, n.blindSaid, n.a.stirred = zeroTime, nil, false, true
	if said {
		n.a.touchReaders()
		n.a.o.Log.Info("namespaces followed again")
	}
}

// blindFor tells whether changes have been missed for longer than d. The caller
// holds the Auditor's lock.
func (n *namespaces) blindFor(d time.Duration) bool {
	return !n.blind.IsZero() && n.a.o.Clock.Since(n.blind) > d
}

func (n *namespaces) blindForLong() bool {
	n.a.mu.Lock()
	defer n.a.mu.Unlock()
	return n.blindFor(patience)
}

func (a *Auditor) stir() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stirred = true
}

// touchReaders touches the constraints that look at namespaces. The caller holds
// the lock.
func (a *Auditor) touchReaders() {
	for _, c := range a.known {
		if c.readsNamespace() {
			a.touch(c)
		}
	}
}

// namespacesMissed says that changes of namespaces are missed that a constraint
// looks at, "" if none are. The caller holds the lock.
func (a *Auditor) namespacesMissed() string {
	if n := a.namespaces; n.blindSaid {
		for _, c := range a.known {
			if c.readsNamespace() {
				return fmt.Sprintf("since %s changes of namespaces have been missed: %v", n.blind.UTC().Format(time.RFC3339), n.why)
			}
		}
	}
	return ""
}

func (n *namespaces) trouble() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.problem
}

// await waits for the first list.
func (n *namespaces) await(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-n.listed:
		return true
	}
}

func (n *namespaces) run(ctx context.Context) {
	retry := n.a.o.Timings.AuditRead
	for ctx.Err() == nil {
		held, err := n.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if held {
			retry = n.a.o.Timings.AuditRead
		}
		n.missing(err)
		if !unwatched(err) {
			n.troubled(err)
		}
		n.source.erred(err)
		if !passing(err) || retry == n.a.o.Timings.AuditRead {
			n.a.o.Log.Error(err, "namespaces not followed; trying again")
		}
		n.a.sleep(ctx, jitter(retry))
		retry = min(2*retry, n.a.o.Timings.AuditReadMax)
	}
}

// session lists the namespaces and follows them until that fails. It tells
// whether they were followed for a while.
func (n *namespaces) session(parent context.Context) (held bool, err error) {
	ctx, cancel := context.WithCancel(parent)
	var tasks sync.WaitGroup
	defer func() { cancel(); tasks.Wait() }()
	select { // what was said of the last session does not count any more
	case old := <-n.lost:
		n.a.o.Log.V(1).Info("reading namespaces anew", "reason", old.Error())
	default:
	}
	version, err := n.list(ctx)
	if err != nil {
		return false, err
	}
	n.troubled(nil)
	events := make(chan event)
	tasks.Go(func() { n.source.follow(ctx, version, events) })
	return n.take(ctx, events)
}

// list reads all namespaces and returns as of which version.
func (n *namespaces) list(ctx context.Context) (version string, err error) {
	present := map[string]bool{}
	_, err = n.source.list(ctx, metav1.NamespaceAll, reader{
		began: func(v string) { version = v },
		each: func(text []byte) error {
			u, err := n.source.object(text)
			if err == nil {
				present[u.GetName()] = true
				n.set(u)
			}
			return err
		},
		page: func(int64) {},
	})
	if err == nil {
		n.keep(present)
	}
	return version, err
}

// take takes events until there can be no more of them, and tells whether there
// were any.
func (n *namespaces) take(ctx context.Context, events <-chan event) (held bool, err error) {
	for {
		select {
		case <-ctx.Done():
			return held, ctx.Err()
		case err := <-n.lost:
			return held, err
		case e := <-events:
			if e.err != nil {
				return held, e.err
			}
			if !held {
				held = true
				n.followed()
			}
			n.changed(e)
		}
	}
}

func (n *namespaces) changed(e event) {
	switch e.kind {
	case holding, watch.Bookmark:
	case watch.Deleted:
		n.remove(e.object.GetName())
	default:
		n.set(e.object)
	}
}

// set takes over a namespace, and has what lives in it read again if that may
// change a verdict.
func (n *namespaces) set(u *unstructured.Unstructured) {
	object := withoutManagedFields(u.Object)
	name := u.GetName()
	n.mu.Lock()
	before := n.byName[name]
	if before != nil && sameNamespace(before.object, object) {
		n.mu.Unlock()
		return
	}
	again := before != nil || n.missed[name]
	delete(n.missed, name)
	n.byName[name] = &knownNamespace{object: object}
	n.mu.Unlock()
	if again {
		n.a.namespaceChanged(name)
	}
}

// withoutManagedFields is like what the webhook reads from its cache.
func withoutManagedFields(object map[string]any) map[string]any {
	out := maps.Clone(object)
	if metadata, ok := object["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		delete(metadata, "managedFields")
		out["metadata"] = metadata
	}
	return out
}

// sameNamespace compares but for the version, which every write changes.
func sameNamespace(a, b map[string]any) bool {
	a, b = maps.Clone(a), maps.Clone(b)
	for _, object := range []map[string]any{a, b} {
		metadata, _ := object["metadata"].(map[string]any)
		metadata = maps.Clone(metadata)
		delete(metadata, "resourceVersion")
		object["metadata"] = metadata
	}
	return reflect.DeepEqual(a, b)
}

func (n *namespaces) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byName, name)
}

// keep removes what is not present.
func (n *namespaces) keep(present map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.byName, func(name string, _ *knownNamespace) bool { return !present[name] })
}

// clusterUID is the UID of kube-system, by which a cluster is told from others.
func (n *namespaces) clusterUID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if found := n.byName[metav1.NamespaceSystem]; found != nil {
		u := unstructured.Unstructured{Object: found.object}
		return string(u.GetUID())
	}
	return ""
}
