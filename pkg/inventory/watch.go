package inventory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// pageSize bounds a page where the API server cannot stream a list.
const pageSize = 500

// objects takes what a watch brings: all there is at first and whenever the
// watch has lost its place, and then each change.
type objects interface {
	replace(all []*unstructured.Unstructured)
	put(u *unstructured.Unstructured)
	remove(u *unstructured.Unstructured)
	// problem says why the kind cannot be read for now, nil if it can.
	problem(err error)
	// trim is called once with each object, before it is stored.
	trim(u *unstructured.Unstructured)
}

// follow hands to o the objects of a kind until ctx ends, whether or not the
// kind is served yet.
func (i *Inventory) follow(ctx context.Context, gvk schema.GroupVersionKind, o objects) {
	for ctx.Err() == nil {
		r, err := i.served.find(ctx, gvk)
		if err == nil {
			i.reflect(ctx, r, gvk, o)
			continue
		}
		o.problem(err)
		i.sleep(ctx, time.Duration(float64(i.o.Timings.InventoryRetry)*(0.9+0.2*rand.Float64())))
	}
}

// reflect lists and watches until ctx ends or the kind is served otherwise.
func (i *Inventory) reflect(ctx context.Context, r resource, gvk schema.GroupVersionKind, o objects) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := logr.Discard()
	reflector := toolscache.NewReflectorWithOptions(i.lister(r, o, cancel), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": gvk.GroupVersion().String(), "kind": gvk.Kind,
	}}, sink{o}, toolscache.ReflectorOptions{Name: "inventory", Logger: &quiet, Clock: i.o.Clock})
	reflector.WatchListPageSize = pageSize
	reflector.RunWithContext(klog.NewContext(ctx, quiet)) // the lister says what goes wrong
}

// lister reads a kind and says how that goes. It calls gone when the kind is
// not served as r any more.
func (i *Inventory) lister(r resource, o objects, gone context.CancelFunc) toolscache.ListerWatcher {
	heard := func(ctx context.Context, err error) {
		if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return
		}
		o.problem(err)
		if apierrors.IsNotFound(err) {
			gone()
		}
	}
	return toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := i.o.Client.Resource(r.gvr).List(ctx, options)
			if err != nil {
				heard(ctx, fmt.Errorf("listing %s: %w", r.gvr.GroupResource(), err))
				return nil, err
			}
			for n := range list.Items {
				o.trim(&list.Items[n])
			}
			return list, nil
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			w, err := i.o.Client.Resource(r.gvr).Watch(ctx, options)
			if err != nil {
				heard(ctx, fmt.Errorf("watching %s: %w", r.gvr.GroupResource(), err))
				return nil, err
			}
			if options.SendInitialEvents == nil {
				o.problem(nil)
			}
			return w, nil
		},
	}, i.o.Client)
}

// sink shows objects to a reflector as the store that it fills.
type sink struct{ o objects }

var _ toolscache.TransformingStore = sink{}

var errNoObject = errors.New("the watch sent what is no object")

func (s sink) each(obj any, f func(*unstructured.Unstructured)) error {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return errNoObject
	}
	f(u)
	return nil
}

// Transformer has objects trimmed as they arrive in a streamed list.
func (s sink) Transformer() toolscache.TransformFunc {
	return func(obj any) (any, error) { return obj, s.each(obj, s.o.trim) }
}

func (s sink) Add(obj any) error { return s.Update(obj) }

func (s sink) Update(obj any) error {
	return s.each(obj, func(u *unstructured.Unstructured) {
		s.o.trim(u)
		s.o.put(u)
	})
}

func (s sink) Delete(obj any) error { return s.each(obj, s.o.remove) }

func (s sink) Replace(list []any, _ string) error {
	all := make([]*unstructured.Unstructured, 0, len(list))
	for _, obj := range list {
		if err := s.each(obj, func(u *unstructured.Unstructured) { all = append(all, u) }); err != nil {
			return err
		}
	}
	s.o.replace(all)
	s.o.problem(nil)
	return nil
}

func (sink) Resync() error { return nil }
