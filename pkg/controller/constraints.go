package controller

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Constraints are those of the kinds that an Ingest follows, as the API server
// last told of them. An informer of the manager's cache would do, but takes 100
// KB for each kind, of which there are hundreds: here a kind has a reflector and
// what it fills. It is safe for concurrent use.
type Constraints struct {
	client dynamic.Interface
	packed bool
	log    logr.Logger
	ctx    context.Context // ends with all reflectors
	end    context.CancelFunc

	mu      sync.RWMutex
	shelves map[string]*shelf // by kind
	tasks   sync.WaitGroup
}

// ConstraintsOptions say how constraints are read and held.
type ConstraintsOptions struct {
	Config *rest.Config
	// HTTP is what requests are sent by. Its connections are shared.
	HTTP *http.Client
	// Packed has constraints held as text, in a fraction of the memory, and
	// decoded each time that they are read: for who reads them when they change
	// only.
	Packed bool
	Log    logr.Logger
}

// NewConstraints returns Constraints that follow no kind. They are a runnable of
// the manager's.
func NewConstraints(o ConstraintsOptions) (*Constraints, error) {
	cfg := rest.CopyConfig(o.Config)
	cfg.QPS, cfg.RateLimiter = -1, nil // a request for each kind, all of which are waited for
	c, err := dynamic.NewForConfigAndClient(cfg, o.HTTP)
	if err != nil {
		return nil, fmt.Errorf("creating the client of constraints: %w", err)
	}
	out := &Constraints{client: c, packed: o.Packed, log: o.Log, shelves: map[string]*shelf{}}
	out.ctx, out.end = context.WithCancel(context.Background())
	return out, nil
}

// NeedLeaderElection is false: every process ingests on its own.
func (c *Constraints) NeedLeaderElection() bool { return false }

// Start has all kinds followed until ctx ends, and returns once none is.
func (c *Constraints) Start(ctx context.Context) error {
	<-ctx.Done()
	c.mu.Lock()
	c.end()
	c.mu.Unlock()
	c.tasks.Wait()
	return nil
}

// follow begins to read the constraints of kind, in place of what was known of
// them. tell is called with the name of each that has come, changed or gone, once
// Get says so too; it must not block.
func (c *Constraints) follow(kind string, tell func(name string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	ctx, stop := context.WithCancel(c.ctx)
	if before := c.shelves[kind]; before != nil {
		before.stop()
	}
	s := newShelf(c.packed, tell, stop)
	c.shelves[kind] = s
	c.tasks.Go(func() { c.reflect(ctx, kind, s) })
}

// unfollow forgets the constraints of kind.
func (c *Constraints) unfollow(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.shelves[kind]; s != nil {
		s.stop()
	}
	delete(c.shelves, kind)
}

// reflect lists and watches a kind until ctx ends.
func (c *Constraints) reflect(ctx context.Context, kind string, s *shelf) {
	gvk := constraintGVK(kind)
	from := gvk.GroupVersion().WithResource(strings.ToLower(kind)) // a CRD is named by its plural and group
	failing := false
	quiet := logr.Discard() // it would tell of every failure, and of the end
	lister := toolscache.ToListWatcherWithWatchListSemantics(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			all, err := c.client.Resource(from).List(ctx, o)
			failing = c.heard(ctx, kind, failing, err)
			return all, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			events, err := c.client.Resource(from).Watch(ctx, o)
			failing = c.heard(ctx, kind, failing, err)
			return events, err
		},
	}, c.client)
	r := toolscache.NewReflectorWithOptions(lister, newObject(gvk), s, toolscache.ReflectorOptions{
		Name: "constraints", Logger: &quiet, Backoff: patiently(),
	})
	r.RunWithContext(klog.NewContext(ctx, quiet))
}

// heard logs the first of a series of failures to read a kind, and the end of the
// series. It returns whether one goes on.
func (c *Constraints) heard(ctx context.Context, kind string, failing bool, err error) bool {
	switch {
	case ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
		return failing // it is over, or read anew at once
	case err == nil && failing:
		c.log.Info("constraints are read again", "kind", kind)
	case apierrors.IsNotFound(err) && !failing:
		c.log.Info("constraints are not served; trying again", "kind", kind)
	case err != nil && !failing:
		c.log.Error(err, "constraints not read; trying again", "kind", kind)
	}
	return err != nil
}

// patiently is when to try again: soon at first, as a kind that is established
// may be served in a moment.
func patiently() *wait.Backoff {
	return &wait.Backoff{Duration: notYet, Factor: 2, Jitter: 1, Steps: 10, Cap: 30 * time.Second}
}

func (c *Constraints) shelf(kind string) *shelf {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.shelves[kind]
}

// synced tells whether kind is followed and all its constraints are known.
func (c *Constraints) synced(kind string) bool {
	s := c.shelf(kind)
	return s != nil && s.complete()
}

// names are those of the constraints of kind.
func (c *Constraints) names(kind string) []string {
	if s := c.shelf(kind); s != nil {
		return s.names()
	}
	return nil
}

// Get returns a constraint, which must not be modified. The error is NotFound if
// it is not known.
func (c *Constraints) Get(kind, name string) (*unstructured.Unstructured, error) {
	if s := c.shelf(kind); s != nil {
		if one, found := s.get(name); found {
			return one.read()
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: constraintGVK(kind).Group, Resource: strings.ToLower(kind)}, name)
}

// List returns the constraints of kind, which must not be modified, in no
// order.
func (c *Constraints) List(kind string) ([]*unstructured.Unstructured, error) {
	s := c.shelf(kind)
	if s == nil {
		return nil, nil
	}
	all := s.all()
	out := make([]*unstructured.Unstructured, 0, len(all))
	for _, one := range all {
		u, err := one.read()
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}
