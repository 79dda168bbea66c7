package controller

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// watches are the constraint kinds that are followed, by informers of the
// manager's cache, which come and go while the process runs. The cache must be
// one that does not start an informer for who reads (ReaderFailOnMissingInformer):
// it would bring one back that was removed. Only one goroutine may add and remove;
// synced is safe for concurrent use.
type watches struct {
	cache cache.Cache
	// changed is called with every constraint that has come, changed or gone,
	// once the cache says so too. It must not block.
	changed func(k key)

	mu   sync.RWMutex
	open map[string]watched // by template, whose name is the kind in lower case
}

// watched is a kind, as the CRD with this UID defines it.
type watched struct {
	kind string
	crd  types.UID
	// synced tells whether all its constraints have been listed.
	synced func() bool
}

func newWatches(c cache.Cache, changed func(key)) *watches {
	return &watches{cache: c, changed: changed, open: map[string]watched{}}
}

func (w *watches) of(template string) watched {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.open[template]
}

// kind is the kind that is watched for template, empty if none is.
func (w *watches) kind(template string) string { return w.of(template).kind }

func (w *watches) has(kind string) bool { return kind != "" && w.kind(strings.ToLower(kind)) == kind }

// synced tells whether kind is watched and all its constraints have been
// listed.
func (w *watches) synced(kind string) bool {
	now := w.of(strings.ToLower(kind))
	return now.kind == kind && now.synced != nil && now.synced()
}

// add starts to watch kind, the constraint kind of template, unless it is
// watched already, and tells whether it did. It does not wait for the first
// list. An informer outlives its CRD: for another one there is another.
func (w *watches) add(ctx context.Context, template, kind string, crd types.UID) (anew bool, err error) {
	if before := w.of(template); before.kind == kind && before.crd == crd {
		return false, nil
	}
	if err := w.remove(ctx, template); err != nil {
		return false, err
	}
	informer, err := w.cache.GetInformer(ctx, newObject(constraintGVK(kind)), cache.BlockUntilSynced(false))
	if err != nil {
		return false, fmt.Errorf("watching constraints of kind %s: %w", kind, err)
	}
	changed := func(o any) {
		if name, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
			w.changed(key{kind: kind, name: name})
		}
	}
	handler, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: changed, UpdateFunc: func(_, o any) { changed(o) }, DeleteFunc: changed,
	})
	if err != nil {
		return false, fmt.Errorf("watching constraints of kind %s: %w", kind, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[template] = watched{kind: kind, crd: crd, synced: handler.HasSynced}
	return true, nil
}

// remove stops to watch the constraint kind of template, if it is watched.
func (w *watches) remove(ctx context.Context, template string) error {
	kind := w.kind(template)
	if kind == "" {
		return nil
	}
	w.mu.Lock()
	delete(w.open, template)
	w.mu.Unlock()
	if err := w.cache.RemoveInformer(ctx, newObject(constraintGVK(kind))); err != nil {
		return fmt.Errorf("no longer watching constraints of kind %s: %w", kind, err)
	}
	return nil
}
