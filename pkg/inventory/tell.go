package inventory

import (
	"context"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// lastDelay is the longest that changes are gathered for. They are told together:
// the first within timing.Timings.InventoryTell, and while there is no end of them at
// growing intervals, since each has audit read kinds anew.
const lastDelay = 30 * time.Second

// stir notes that objects of a kind have changed.
func (i *Inventory) stir(gvk schema.GroupVersionKind) {
	i.mu.Lock()
	i.dirty[gvk] = true
	i.mu.Unlock()
	i.stirred.Set()
}

// tell passes changes on until ctx ends.
func (i *Inventory) tell(ctx context.Context) {
	first, last := i.o.Timings.InventoryTell, time.Time{}
	delay := first
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.stirred.C():
		}
		delay = nextDelay(delay, first, i.o.Clock.Since(last))
		if !i.sleep(ctx, delay) {
			return
		}
		i.mu.Lock()
		if i.tellNow() {
			last = i.o.Clock.Now()
		}
		i.mu.Unlock()
	}
}

// tellNow passes changes on, and tells whether there were any. The caller holds
// the lock.
func (i *Inventory) tellNow() bool {
	if len(i.dirty) == 0 {
		return false
	}
	i.o.Engine.DataChanged(slices.Collect(maps.Keys(i.dirty)))
	clear(i.dirty)
	return true
}

// nextDelay is how long to gather changes, the first of which came some time
// after the last were told.
func nextDelay(before, first, quiet time.Duration) time.Duration {
	if quiet > 2*before {
		return first
	}
	return min(2*before, lastDelay)
}
