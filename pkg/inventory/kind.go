package inventory

import (
	"context"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/engine"
)

// kind keeps the objects of one kind in the engine's data. What is there stays
// when its watch is lost.
type kind struct {
	i       *Inventory
	gvk     schema.GroupVersionKind
	cancel  context.CancelFunc
	done    chan struct{}
	strings *interner

	// The fields below are the watch's alone.
	counts map[string]int // by namespace, "" for what has none
	bytes  int64

	// The fields below are guarded by the Inventory's lock. obstacle is why the
	// kind cannot be read, complete tells that it once was to the end.
	obstacle error
	complete bool
	since    time.Time // since when there is an obstacle
}

var _ objects = (*kind)(nil)

func newKind(i *Inventory, gvk schema.GroupVersionKind) *kind {
	return &kind{i: i, gvk: gvk, done: make(chan struct{}), strings: newInterner(), counts: map[string]int{}}
}

// start follows the kind until ctx ends or stop is called.
func (k *kind) start(ctx context.Context) {
	ctx, k.cancel = context.WithCancel(ctx)
	k.i.metrics.show(k.gvk, 0, 0)
	k.i.metrics.state(k.gvk, false, false)
	k.i.o.Log.Info("kind followed for the inventory", "kind", k.gvk.String())
	k.i.tasks.Go(func() {
		defer close(k.done)
		k.i.follow(ctx, k.gvk, k)
	})
}

// withhold says that the kind is not read at all.
func (k *kind) withhold(why error) {
	k.cancel = func() {}
	close(k.done)
	k.problem(why)
}

// stop ends the watch and takes the kind's objects out of the data.
func (k *kind) stop() {
	k.cancel()
	<-k.done
	k.swap(nil)
	k.i.metrics.forget(k.gvk)
	k.i.stir(k.gvk)
	k.i.o.Log.Info("kind not followed any more for the inventory", "kind", k.gvk.String())
}

// below is where the objects of a namespace lie, by name
// (Gatekeeper's pkg/target, processUnstructured).
func (k *kind) below(namespace string) []string {
	gv := k.gvk.GroupVersion().String()
	if namespace == "" {
		return []string{"cluster", gv, k.gvk.Kind}
	}
	return []string{"namespace", namespace, gv, k.gvk.Kind}
}

func (k *kind) path(u *unstructured.Unstructured) []string {
	return append(k.below(u.GetNamespace()), u.GetName())
}

func (k *kind) trim(u *unstructured.Unstructured) {
	unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
	u.Object = k.strings.object(u.Object)
}

// replace has all there is take the place of what there was, at once.
func (k *kind) replace(all []*unstructured.Unstructured) {
	byNamespace := map[string]map[string]any{}
	for _, u := range all {
		namespace := u.GetNamespace()
		if byNamespace[namespace] == nil {
			byNamespace[namespace] = map[string]any{}
		}
		byNamespace[namespace][u.GetName()] = u.Object
	}
	k.swap(byNamespace)
	k.i.stir(k.gvk)
	k.read()
}

func (k *kind) swap(byNamespace map[string]map[string]any) {
	var edits []engine.DataEdit
	for namespace := range k.counts {
		if byNamespace[namespace] == nil {
			edits = append(edits, engine.DataEdit{Path: k.below(namespace)})
		}
	}
	clear(k.counts)
	k.bytes = 0
	for namespace, objects := range byNamespace {
		edits = append(edits, engine.DataEdit{Path: k.below(namespace), Objects: objects})
		k.counts[namespace] = len(objects)
		for _, o := range objects {
			k.bytes += k.strings.size(o)
		}
	}
	k.failed(k.i.o.Engine.UpdateData(edits))
	k.show()
}

// failed logs what cannot happen: the paths of different kinds never meet.
func (k *kind) failed(err error) {
	if err != nil {
		k.i.o.Log.Error(err, "objects not stored in the inventory", "kind", k.gvk.String())
	}
}

// read notes that everything is there.
func (k *kind) read() {
	k.i.mu.Lock()
	defer k.i.mu.Unlock()
	if !k.complete {
		k.i.o.Log.Info("kind read to the end for the inventory", "kind", k.gvk.String(), "objects", k.total())
	}
	k.complete = true
	k.i.nudge()
}

func (k *kind) total() (n int) {
	for _, count := range k.counts {
		n += count
	}
	return n
}

func (k *kind) put(u *unstructured.Unstructured) {
	path := k.path(u)
	before, had := k.i.o.Engine.GetData(path)
	k.failed(k.i.o.Engine.AddData(context.Background(), path, u.Object))
	k.bytes += k.strings.size(u.Object)
	if had {
		k.bytes -= k.strings.size(before)
	} else {
		k.counts[u.GetNamespace()]++
	}
	k.show()
	if !had || !alike(before, u.Object) {
		k.i.stir(k.gvk)
	}
}

func (k *kind) remove(u *unstructured.Unstructured) {
	path := k.path(u)
	before, had := k.i.o.Engine.GetData(path)
	if !had {
		return
	}
	k.failed(k.i.o.Engine.UpdateData([]engine.DataEdit{{Path: path}}))
	k.bytes -= k.strings.size(before)
	namespace := u.GetNamespace()
	if k.counts[namespace]--; k.counts[namespace] == 0 {
		delete(k.counts, namespace)
	}
	k.show()
	k.i.stir(k.gvk)
}

func (k *kind) show() { k.i.metrics.show(k.gvk, k.total(), k.bytes) }

// alike tells whether two versions of an object differ in their version only.
func alike(before, now any) bool {
	x, ok := before.(map[string]any)
	y, ok2 := now.(map[string]any)
	if !ok || !ok2 || len(x) != len(y) {
		return false
	}
	for key := range y {
		if key == "metadata" {
			if !alikeMetadata(x[key], y[key]) {
				return false
			}
			continue
		}
		if !reflect.DeepEqual(x[key], y[key]) {
			return false
		}
	}
	return true
}

func alikeMetadata(before, now any) bool {
	x, _ := before.(map[string]any)
	y, _ := now.(map[string]any)
	if len(x) != len(y) {
		return false
	}
	for key := range y {
		if key != "resourceVersion" && !reflect.DeepEqual(x[key], y[key]) {
			return false
		}
	}
	return true
}

// problem notes whether the kind can be read. Of a series of errors of one sort
// the first counts, so that what is said of it stays.
func (k *kind) problem(err error) {
	if err != nil {
		k.i.metrics.failed(k.gvk)
	}
	k.i.mu.Lock()
	defer k.i.mu.Unlock()
	k.i.metrics.state(k.gvk, k.complete, err == nil)
	switch {
	case err == nil && k.obstacle != nil:
		k.i.o.Log.Info("kind followed again for the inventory", "kind", k.gvk.String())
		k.obstacle = nil
	case err == nil:
		return
	case k.obstacle == nil:
		k.since = k.i.o.Clock.Now()
		k.i.o.Log.Error(err, "kind not followed for the inventory; trying again", "kind", k.gvk.String())
		k.obstacle = err
	case sort(err) == sort(k.obstacle):
		return
	default:
		k.obstacle = err
	}
	k.i.nudge()
}

func sort(err error) metav1.StatusReason { return apierrors.ReasonForError(err) }
