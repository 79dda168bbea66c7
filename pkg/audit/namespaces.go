package audit

import (
	"context"
	"maps"
	"reflect"
	"strings"
	"sync"

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
		a: a, source: source{a: a, resource: r}, listed: make(chan struct{}),
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
// the right to read them, what does not look at them is audited all the same.
func (n *namespaces) troubled(err error) {
	if err != nil && !lasting(err) {
		return
	}
	n.mu.Lock()
	n.problem = err
	n.mu.Unlock()
	n.once.Do(func() { close(n.listed) })
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
	retry := firstRetry
	for ctx.Err() == nil {
		err := n.session(ctx)
		if ctx.Err() != nil {
			return
		}
		n.troubled(err)
		n.source.erred(err)
		if !passing(err) || retry == firstRetry {
			n.a.o.Log.Error(err, "namespaces not followed; trying again")
		}
		n.a.sleep(ctx, jitter(retry))
		retry = min(2*retry, lastRetry)
	}
}

// session lists the namespaces and follows them until that fails.
func (n *namespaces) session(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	var tasks sync.WaitGroup
	defer func() { cancel(); tasks.Wait() }()
	version, err := n.list(ctx)
	if err != nil {
		return err
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

func (n *namespaces) take(ctx context.Context, events <-chan event) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			switch {
			case e.err != nil:
				return e.err
			case e.kind == holding, e.kind == watch.Bookmark:
			case e.kind == watch.Deleted:
				n.remove(e.object.GetName())
			default:
				n.set(e.object)
			}
		}
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
