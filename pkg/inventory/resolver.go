package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/clock"
)

// errNotServed says that the cluster has no such kind.
var errNotServed = errors.New("the cluster does not serve it")

// resolver finds out how kinds are served.
type resolver struct {
	discovery discovery.ServerResourcesInterface
	remember  time.Duration // see timing.Timings.InventoryKinds
	clock     clock.Clock

	mu    sync.Mutex // held while it asks: one question serves all
	known map[schema.GroupVersion]answer
}

type answer struct {
	at        time.Time
	resources []metav1.APIResource
	err       error
}

func newResolver(d discovery.ServerResourcesInterface, remember time.Duration, c clock.Clock) *resolver {
	return &resolver{discovery: d, remember: remember, clock: c, known: map[schema.GroupVersion]answer{}}
}

// resource is how a kind is served.
type resource struct {
	gvr        schema.GroupVersionResource
	namespaced bool
}

// find returns how a kind is served. The error is errNotServed, or why it is
// not known.
func (r *resolver) find(ctx context.Context, gvk schema.GroupVersionKind) (resource, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gv := gvk.GroupVersion()
	a, asked := r.known[gv]
	if !asked || r.clock.Since(a.at) > r.remember {
		a = r.ask(ctx, gv)
		r.known[gv] = a
	}
	if a.err != nil {
		return resource{}, a.err
	}
	for _, served := range a.resources {
		if served.Kind != gvk.Kind || strings.Contains(served.Name, "/") {
			continue
		}
		if !slices.Contains(served.Verbs, "list") || !slices.Contains(served.Verbs, "watch") {
			return resource{}, fmt.Errorf("%s cannot be listed and watched", served.Name)
		}
		return resource{gvr: gv.WithResource(served.Name), namespaced: served.Namespaced}, nil
	}
	return resource{}, errNotServed
}

func (r *resolver) ask(_ context.Context, gv schema.GroupVersion) answer {
	list, err := r.discovery.ServerResourcesForGroupVersion(gv.String())
	a := answer{at: r.clock.Now()}
	switch {
	case apierrors.IsNotFound(err):
		a.err = errNotServed
	case err != nil:
		a.err = fmt.Errorf("asking what %s serves: %w", gv, err)
	default:
		a.resources = list.APIResources
	}
	return a
}
