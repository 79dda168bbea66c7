package env

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The pauses between two looks at what tells nobody when it changes.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// Await returns once try returns nil, and fails the test if that takes longer than
// Patience. For the state of an object there is AwaitObject.
func Await(t testing.TB, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if err := Poll(ctx, try); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

// Poll calls try until it returns nil; when the context ends it returns what try
// returned last.
func Poll(ctx context.Context, try func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := try()
		if err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// AwaitObject returns the object once holds returns nil of it, and fails the test
// if that takes longer than Patience. It reads the object, of which only kind,
// namespace and name count, and then watches it; one that is not there, or whose
// kind is not served yet, may come.
func AwaitObject(t testing.TB, c client.WithWatch, of *unstructured.Unstructured, what string, holds func(*unstructured.Unstructured) error) *unstructured.Unstructured {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	last := errors.New("it was not read")
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		u, err := awaitOnce(ctx, c, of, holds)
		if err == nil {
			return u
		}
		if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
			last = err
		}
		timer := time.NewTimer(pause) // before the watch is tried again
		select {
		case <-ctx.Done():
			timer.Stop()
			t.Fatalf("waiting for %s: %v", what, last)
		case <-timer.C:
		}
	}
}

// awaitOnce follows an object until it is as wanted or the watch ends.
func awaitOnce(ctx context.Context, c client.WithWatch, of *unstructured.Unstructured, holds func(*unstructured.Unstructured) error) (*unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion(of.GetAPIVersion())
	list.SetKind(of.GetKind() + "List")
	one := []client.ListOption{client.MatchingFields{"metadata.name": of.GetName()}, client.InNamespace(of.GetNamespace())}
	if err := c.List(ctx, list, one...); err != nil {
		return nil, err
	}
	last := fmt.Errorf("there is no %s %s", of.GetKind(), of.GetName())
	for i := range list.Items {
		if last = holds(&list.Items[i]); last == nil {
			return &list.Items[i], nil
		}
	}
	w, err := c.Watch(ctx, list, append(one, &client.ListOptions{Raw: watchFrom(list.GetResourceVersion())})...)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		u, ok := e.Object.(*unstructured.Unstructured)
		switch {
		case e.Type == watch.Deleted:
			last = fmt.Errorf("there is no %s %s any more", of.GetKind(), of.GetName())
		case !ok || e.Type == watch.Error:
			return nil, last
		default:
			if last = holds(u); last == nil {
				return u, nil
			}
		}
	}
	return nil, last
}
