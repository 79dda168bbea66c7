package audit

import (
	"slices"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/types"
)

// objectKey identifies an object of a kind.
type objectKey struct{ namespace, name string }

// record is what is kept of an object with which something is wrong.
type record struct {
	// reading is the latest that has seen the object.
	reading  uint64
	exempt   bool
	findings []finding
	// costs are those of constraints that use over half of their budget. There are
	// none of objects outside the perimeter, which nothing refuses.
	costs []cost
	// uid and held are for an ObjectSink, and empty if there is none. held
	// stands for what was found by constraints that are withheld now: it is in
	// no count.
	uid  types.UID
	held []finding
}

// finding is one violation, or a verdict that could not be had.
type finding struct {
	by      *constraint
	message unique.Handle[string]
	fault   bool
}

// cost is how much of its budget a constraint uses, in percent.
type cost struct {
	by      *constraint
	percent int
}

// counts are those of one constraint in one kind.
type counts struct{ violations, exempt, faults, costly int64 }

func (c *counts) add(f finding, exempt bool, n int64) {
	switch {
	case f.fault:
		c.faults += n
	case exempt:
		c.exempt += n
	default:
		c.violations += n
	}
}

// tally is what was found in a kind. It holds nothing of objects with which
// nothing is wrong.
type tally struct {
	// objects is how many there are, and counted the version from which on
	// events change that.
	objects int64
	counted uint64
	records map[objectKey]*record
	counts  map[*constraint]*counts
	// readAt is when everything was read by a constraint, if that was later
	// than by all of them.
	readAt map[*constraint]time.Time
	// suspects are objects of which a full read found other than what was
	// known, unless the watch explains it until it comes to suspectedAt.
	suspects    map[objectKey]bool
	suspectedAt uint64
}

func newTally() tally {
	return tally{records: map[objectKey]*record{}, counts: map[*constraint]*counts{}, readAt: map[*constraint]time.Time{}}
}

// put replaces what is known of an object; nil forgets it. The caller holds the
// lock.
func (k *kind) put(key objectKey, now *record) {
	if before := k.records[key]; before != nil {
		k.count(before, -1)
		k.moved(key)
	}
	if now.empty() {
		delete(k.records, key)
		return
	}
	k.moved(key)
	k.records[key] = now
	k.count(now, 1)
}

func (k *kind) count(r *record, n int64) {
	for _, f := range r.findings {
		k.countsOf(f.by).add(f, r.exempt, n)
		k.a.touch(f.by)
	}
	for _, c := range r.costs {
		k.countsOf(c.by).costly += n
		k.a.touch(c.by)
	}
}

func (k *kind) countsOf(c *constraint) *counts {
	if k.counts[c] == nil {
		k.counts[c] = &counts{}
	}
	return k.counts[c]
}

// touch notes that the outcome of a constraint may have changed.
func (a *Auditor) touch(c *constraint) {
	c.cached, a.stirred = nil, true
	if a.known[c.name] == c {
		a.dirty[c] = true
	}
}

func (k *kind) touchAll() {
	for c := range k.constraints {
		k.a.touch(c)
	}
}

// forget drops the findings of a constraint.
func (k *kind) forget(c *constraint) {
	delete(k.counts, c)
	delete(k.readAt, c)
	k.a.touch(c)
	for key, r := range k.records {
		k.moved(key)
		*r = *r.without(map[*constraint]bool{c: true})
		if r.empty() {
			delete(k.records, key)
		}
	}
}

// forgetAll is for a kind that is not followed any more.
func (k *kind) forgetAll() {
	k.touchAll()
	for key := range k.records {
		k.moved(key)
	}
	k.tally = newTally()
	k.constraints = nil
}

func (r *record) empty() bool {
	return r == nil || len(r.findings) == 0 && len(r.held) == 0 && len(r.costs) == 0
}

// equal tells whether both are records that say the same, whichever reading saw
// the object.
func (r *record) equal(other *record) bool {
	return other != nil && r.uid == other.uid && slices.Equal(r.held, other.held) && slices.Equal(r.costs, other.costs) && r.same(other)
}

// same is equal but for what passes: constraints that wait for data, and costs.
func (r *record) same(other *record) bool {
	if r == nil || other == nil {
		return (r == nil || len(r.findings) == 0) && (other == nil || len(other.findings) == 0)
	}
	return r.exempt == other.exempt && slices.Equal(r.findings, other.findings)
}
