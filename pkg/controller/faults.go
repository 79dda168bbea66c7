package controller

import (
	"sync"
	"time"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/pkg/timing"
)

const (
	// maxFaulty bounds how many constraints with faults are remembered that
	// may meanwhile be gone.
	maxFaulty = 10000
)

// faults remembers when constraints could not be judged, for their status. It
// is safe for concurrent use.
type faults struct {
	now   func() time.Time
	delay time.Duration // see timing.Timings.FaultDelay

	mu     sync.Mutex
	later  func(k key, delay time.Duration) // has the constraint reported
	byKey  map[key]status.Faults
	queued map[key]bool
}

func newFaults(now func() time.Time) *faults {
	return &faults{now: now, delay: timing.Production().FaultDelay, byKey: map[key]status.Faults{}, queued: map[key]bool{}}
}

// deliver sets what has a constraint reported after a delay.
func (f *faults) deliver(later func(key, time.Duration)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.later = later
}

// refresh has an object reported at once, unless nothing is reported yet.
func (f *faults) refresh(k key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.later != nil {
		f.later(k, 0)
	}
}

// record counts a fault and has its constraint reported before long.
func (f *faults) record(r *policy.Review, fault policy.Fault) {
	k := key{kind: fault.Constraint.Kind, name: fault.Constraint.Name}
	f.mu.Lock()
	defer f.mu.Unlock()
	before, known := f.byKey[k]
	if !known && len(f.byKey) >= maxFaulty {
		return
	}
	f.byKey[k] = status.Faults{Count: before.Count + 1, Last: status.Fault{
		Time: f.now(), Cause: string(fault.Cause), Message: fault.Summary(),
		Operation: string(r.Operation), Kind: r.Kind.GroupKind().String(),
		Namespace: r.Namespace, Name: r.Name, User: r.UserInfo.Username,
	}}
	if f.later != nil && !f.queued[k] {
		f.queued[k] = true
		f.later(k, f.delay)
	}
}

// again has an object reported soon.
func (f *faults) again(k key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.later != nil {
		f.later(k, 0)
	}
}

// take returns what is to be reported of a constraint.
func (f *faults) take(k key) status.Faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.queued, k)
	return f.byKey[k]
}

// drop forgets a constraint that is gone.
func (f *faults) drop(k key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.queued, k)
	delete(f.byKey, k)
}

// Record remembers, for the status of the constraint, that it could not be
// judged. It does not block. A fault that concerns no single constraint is not
// for any status.
func (i *Ingest) Record(r *policy.Review, fault policy.Fault) {
	if fault.Constraint.Name != "" {
		i.faults.record(r, fault)
	}
}
