// Package inventory keeps the objects that referential policies read beside the
// one that they judge: those of the kinds that templates, SyncSets and Gatekeeper's
// Config name. Each kind has a watch of its own, which writes into the engine's
// data; no other copy is held. A policy is withheld until what it needs has been
// read to the end, and the engine is told what has changed, so that audit judges
// again what depends on it. Every process that judges has an inventory.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/notify"
	"github.com/fusegate/fusegate/pkg/timing"
)

// Engine is what is fed: an *engine.Engine that awaits its inventory.
type Engine interface {
	// Changed returns what is closed when InventoryNeeds may have changed.
	Changed() <-chan struct{}
	InventoryNeeds() []engine.Need
	SetInventory(n engine.Need, why error) (changed bool)
	SetInventoryStale(n engine.Need, stale string) (changed bool)
	UpdateData(edits []engine.DataEdit) error
	AddData(ctx context.Context, path []string, object any) error
	GetData(path []string) (any, bool)
	DataChanged(kinds []schema.GroupVersionKind)
}

// Options are what an Inventory needs. Client, Discovery and Engine are
// required.
type Options struct {
	// Client is used with its own rate limit.
	Client    dynamic.Interface
	Discovery discovery.ServerResourcesInterface
	Engine    Engine
	// ConfigNamespaces are where a Config named "config" counts.
	ConfigNamespaces []string
	// Secrets lets kinds be read that hold secrets: core Secrets.
	Secrets bool
	// Ready returns why not all templates are known yet; nil means they are.
	Ready func() error
	// Changed is told that State says something else of a template. It must
	// not block.
	Changed func(template string)
	Timings timing.Timings
	Clock   clock.WithTicker
	Metrics prometheus.Registerer
	Log     logr.Logger
}

const (
	// settled is how often to look whether what was said still holds.
	settled = 30 * time.Second
	// startPatience is how long readiness waits for kinds that take long to
	// read; their policies are withheld for longer.
	startPatience = time.Minute
	// staleAfter is how long a kind may go unwatched before State and the engine
	// say so: a watch that is made anew is nothing to tell.
	staleAfter = 30 * time.Second
)

// Inventory holds what policies read. Its methods may be called concurrently.
type Inventory struct {
	o       Options
	metrics *inventoryMetrics
	served  *resolver
	wake    notify.Signal
	stirred notify.Signal
	tasks   sync.WaitGroup
	syncs   *settings

	mu      sync.Mutex // guards what follows, and what the kinds say it guards
	kinds   map[schema.GroupVersionKind]*kind
	states  map[string]State
	dirty   map[schema.GroupVersionKind]bool
	started time.Time
	ready   bool
}

// State is what there is to say about the data of a template.
type State struct {
	// Complete tells whether the template's constraints are judged by; Message
	// says why not, or what is amiss with what they are judged by.
	Complete bool
	Message  string
}

// New returns an Inventory. The error is that of registering its metrics.
func New(o Options) (*Inventory, error) {
	if o.Client == nil || o.Discovery == nil || o.Engine == nil {
		return nil, errors.New("an inventory needs a Client, a Discovery and an Engine")
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Changed == nil {
		o.Changed = func(string) {}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	o.Timings = o.Timings.Filled()
	i := &Inventory{
		o: o, wake: notify.New(), stirred: notify.New(), served: newResolver(o.Discovery, o.Timings.InventoryKinds, o.Clock),
		kinds: map[schema.GroupVersionKind]*kind{}, states: map[string]State{}, dirty: map[schema.GroupVersionKind]bool{},
	}
	i.syncs = newSettings(i)
	var err error
	if i.metrics, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("registering the metrics of the inventory: %w", err)
	}
	return i, nil
}

// NeedLeaderElection is false: every process judges.
func (i *Inventory) NeedLeaderElection() bool { return false }

// Start keeps the inventory until ctx ends, and returns once everything that it
// started has.
func (i *Inventory) Start(ctx context.Context) error {
	defer i.tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	i.mu.Lock()
	i.started = i.o.Clock.Now()
	i.mu.Unlock()
	i.syncs.start(ctx)
	i.tasks.Go(func() { i.tell(ctx) })
	for ctx.Err() == nil {
		changed := i.o.Engine.Changed()
		next := i.plan(ctx)
		i.pause(ctx, changed, next)
	}
	return nil
}

func (i *Inventory) pause(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	timer := i.o.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	case <-i.wake.C():
	case <-changed:
	}
}

// nudge asks for another look at what is needed and what there is.
func (i *Inventory) nudge() { i.wake.Set() }

// sleep waits for d and tells whether ctx has not ended.
func (i *Inventory) sleep(ctx context.Context, d time.Duration) bool {
	timer := i.o.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// State returns what there is to say about the data of a template; known is
// false for templates that read none.
func (i *Inventory) State(template string) (s State, known bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s, known = i.states[template]
	return s, known
}

// Err is nil once what the templates need has been read, or it is known why it
// cannot be, or it takes long. From then on it stays nil.
func (i *Inventory) Err() error {
	if err := i.o.Ready(); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ready {
		return nil
	}
	if i.started.IsZero() {
		return errors.New("the inventory has not begun")
	}
	if i.o.Clock.Since(i.started) < startPatience {
		if err := i.waiting(); err != nil {
			return err
		}
	}
	i.ready = true
	// Who has waited for this must not be told of it again.
	i.tellNow()
	return nil
}

// waiting names what is being read. The caller holds the lock.
func (i *Inventory) waiting() error {
	if !i.syncs.known() {
		return errors.New("reading SyncSets and Config")
	}
	for _, n := range i.o.Engine.InventoryNeeds() {
		if _, known := i.states[n.Template]; !known {
			return fmt.Errorf("finding out what ConstraintTemplate %s reads", n.Template)
		}
	}
	for gvk, k := range i.kinds {
		if !k.complete && k.obstacle == nil {
			return fmt.Errorf("reading %s for the inventory", display(gvk))
		}
	}
	return nil
}

// display names a kind as in "Ingress of networking.k8s.io/v1".
func display(gvk schema.GroupVersionKind) string {
	return gvk.Kind + " of " + gvk.GroupVersion().String()
}
