package controller

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// watches are the informers of constraint kinds, which come and go while the
// process runs. It belongs to one goroutine.
type watches struct {
	cache cache.Cache
	queue workqueue.TypedRateLimitingInterface[key]
	// touched is called on every event.
	touched func()
	open    map[string]watch // by template, whose name is the kind in lower case
}

// watch is an informer of kind, as the CRD with this UID defines it.
type watch struct {
	kind     string
	crd      types.UID
	informer cache.Informer
}

func newWatches(c cache.Cache, q workqueue.TypedRateLimitingInterface[key], touched func()) *watches {
	return &watches{cache: c, queue: q, touched: touched, open: map[string]watch{}}
}

// kind is the kind that is watched for template, empty if none is.
func (w *watches) kind(template string) string { return w.open[template].kind }

func (w *watches) has(kind string) bool { return kind != "" && w.kind(strings.ToLower(kind)) == kind }

// synced tells whether kind is watched and all its constraints have been
// listed: reading one does not block then.
func (w *watches) synced(kind string) bool {
	return w.has(kind) && w.open[strings.ToLower(kind)].informer.HasSynced()
}

// add starts to watch kind, the constraint kind of template, unless it is
// watched already, and tells whether it did. It does not wait for the first
// list.
func (w *watches) add(ctx context.Context, template, kind string, crd types.UID) (anew bool, err error) {
	if now := w.open[template]; now.kind == kind && now.crd == crd {
		return false, nil
	}
	if err := w.remove(ctx, template); err != nil {
		return false, err
	}
	informer, err := w.cache.GetInformer(ctx, newObject(constraintGVK(kind)), cache.BlockUntilSynced(false))
	if err != nil {
		return false, fmt.Errorf("watching %s: %w", kind, err)
	}
	enqueue := func(obj any) {
		if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		if u, ok := obj.(*unstructured.Unstructured); ok {
			w.queue.Add(key{kind: kind, name: u.GetName()})
			w.touched()
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, UpdateFunc: func(_, obj any) { enqueue(obj) }, DeleteFunc: enqueue,
	})
	if err != nil {
		return false, fmt.Errorf("watching %s: %w", kind, err)
	}
	w.open[template] = watch{kind: kind, crd: crd, informer: informer}
	return true, nil
}

// remove stops to watch the constraint kind of template, if it is watched.
func (w *watches) remove(ctx context.Context, template string) error {
	kind := w.kind(template)
	if kind == "" {
		return nil
	}
	if err := w.cache.RemoveInformer(ctx, newObject(constraintGVK(kind))); err != nil {
		return fmt.Errorf("ceasing to watch %s: %w", kind, err)
	}
	delete(w.open, template)
	return nil
}
