package controller

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/fusegate/fusegate/pkg/timing"
)

// Census knows which processes are alive, by the events of their Leases: nothing
// is asked for while they are merely renewed. A Lease counts as run out by the
// reader's own clock, so that clocks need not agree. It is safe for concurrent
// use.
type Census struct {
	// Timings are how long a process is believed to live. They are set before
	// Watch, if at all.
	Timings timing.Timings

	now func() time.Time

	mu     sync.Mutex
	synced func() bool
	news   []func()
	seen   map[string]sighting  // by pod: its Lease
	missed map[string]time.Time // by pod: since when it has none
}

type sighting struct {
	renewed metav1.MicroTime
	at      time.Time
}

// NewCensus returns a census that knows of nobody.
func NewCensus() *Census { return newCensus(time.Now) }

func newCensus(now func() time.Time) *Census {
	return &Census{
		now: now, synced: func() bool { return false },
		seen: map[string]sighting{}, missed: map[string]time.Time{},
	}
}

// Watch takes the events of Leases from the cache, which must hold those of
// presence and no others.
func (c *Census) Watch(ctx context.Context, from cache.Cache) error {
	informer, err := from.GetInformer(ctx, &coordinationv1.Lease{})
	if err != nil {
		return fmt.Errorf("watching presence Leases: %w", err)
	}
	registered, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: c.saw, UpdateFunc: func(_, now any) { c.saw(now) }, DeleteFunc: c.lost,
	})
	if err != nil {
		return fmt.Errorf("watching presence Leases: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced = registered.HasSynced
	return nil
}

// tell has f called when a process comes or goes, but not when its Lease runs
// out. f must not block.
func (c *Census) tell(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.news = append(c.news, f)
}

// leaseOf returns the Lease that an event is about, and whose it is.
func leaseOf(obj any) (*coordinationv1.Lease, string) {
	if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	l, ok := obj.(*coordinationv1.Lease)
	if !ok || l.Spec.HolderIdentity == nil || l.Spec.RenewTime == nil {
		return nil, ""
	}
	return l, *l.Spec.HolderIdentity
}

func (c *Census) saw(obj any) {
	l, pod := leaseOf(obj)
	if l == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	before, known := c.seen[pod]
	if known && before.renewed.Equal(l.Spec.RenewTime) {
		return
	}
	c.seen[pod] = sighting{renewed: *l.Spec.RenewTime, at: now}
	if !known || now.Sub(before.at) > c.Timings.Filled().PresenceTimeout {
		c.announce()
	}
}

func (c *Census) lost(obj any) {
	l, pod := leaseOf(obj)
	if l == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, pod)
	c.announce()
}

func (c *Census) announce() {
	for _, f := range c.news {
		f()
	}
}

// alive returns the processes that have a Lease which has not run out, and when
// the next one runs out unless it is renewed; the zero time if there is none.
// known is false while Leases have not been listed.
func (c *Census) alive() (alive map[string]bool, next time.Time, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	alive = map[string]bool{}
	now := c.now()
	for pod, s := range c.seen {
		if now.Sub(s.at) > c.Timings.Filled().PresenceTimeout {
			continue
		}
		alive[pod] = true
		if out := s.at.Add(c.Timings.Filled().PresenceTimeout); next.IsZero() || out.Before(next) {
			next = out
		}
	}
	return alive, next, c.synced()
}

// untilNext is how long it is until the next Lease runs out unless it is renewed,
// 0 if there is none.
func (c *Census) untilNext() time.Duration {
	_, next, _ := c.alive()
	if next.IsZero() {
		return 0
	}
	return max(next.Sub(c.now()), 0) + time.Millisecond
}

// dead returns the processes whose Lease has run out.
func (c *Census) dead() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]bool{}
	for pod, s := range c.seen {
		if c.now().Sub(s.at) > c.Timings.Filled().PresenceTimeout {
			out[pod] = true
		}
	}
	return out
}

// absent returns those of the pods, all of which have left entries, that have
// had no Lease for c.Timings.Filled().PresenceTimeout. A pod that starts may be quicker to write
// its entries than its Lease.
func (c *Census) absent(pods map[string]bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var out []string
	for pod := range pods {
		if _, leased := c.seen[pod]; leased {
			delete(c.missed, pod)
			continue
		}
		if _, known := c.missed[pod]; !known {
			c.missed[pod] = now
		}
		if now.Sub(c.missed[pod]) > c.Timings.Filled().PresenceTimeout {
			out = append(out, pod)
		}
	}
	maps.DeleteFunc(c.missed, func(pod string, _ time.Time) bool { return !pods[pod] })
	return out
}
