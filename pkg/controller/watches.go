package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// watches are the informers of constraint kinds, which come and go while the
// process runs. It belongs to one goroutine.
type watches struct {
	cache cache.Cache
	queue workqueue.TypedRateLimitingInterface[key]
	kinds map[string]string // kind by template
}

func newWatches(c cache.Cache, q workqueue.TypedRateLimitingInterface[key]) *watches {
	return &watches{cache: c, queue: q, kinds: map[string]string{}}
}

func (w *watches) has(kind string) bool {
	for _, k := range w.kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// add starts to watch kind, the constraint kind of template. It does not wait
// for the first list.
func (w *watches) add(ctx context.Context, template, kind string) error {
	if w.kinds[template] == kind {
		return nil
	}
	if err := w.remove(ctx, template); err != nil {
		return err
	}
	informer, err := w.cache.GetInformer(ctx, newObject(constraintGVK(kind)), cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching %s: %w", kind, err)
	}
	enqueue := func(obj any) {
		if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		if u, ok := obj.(*unstructured.Unstructured); ok {
			w.queue.Add(key{kind: kind, name: u.GetName()})
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, UpdateFunc: func(_, obj any) { enqueue(obj) }, DeleteFunc: enqueue,
	})
	if err != nil {
		return fmt.Errorf("watching %s: %w", kind, err)
	}
	w.kinds[template] = kind
	return nil
}

// remove stops to watch the constraint kind of template, if it is watched.
func (w *watches) remove(ctx context.Context, template string) error {
	kind, watched := w.kinds[template]
	if !watched {
		return nil
	}
	if err := w.cache.RemoveInformer(ctx, newObject(constraintGVK(kind))); err != nil {
		return fmt.Errorf("ceasing to watch %s: %w", kind, err)
	}
	delete(w.kinds, template)
	return nil
}
