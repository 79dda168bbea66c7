package audit

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/engine"
)

// name identifies a constraint.
type name struct{ kind, name string }

// constraint is what audit knows of one. There is one per name as long as the
// constraint exists; findings refer to it.
type constraint struct {
	name name
	// The fields below are guarded by the Auditor's lock.
	scope engine.AuditScope
	// since is the sequence with which the scope became what it is, and data
	// the one with which what its policy reads beside the object did.
	since, data uint64
	// first is the sequence with which it began to be judged by.
	first uint64
	// past is what was found before that.
	past *past
	// last is the last outcome in which it was judged by.
	last *Outcome
	// cached is the last outcome, nil when it has changed.
	cached *Outcome
	// shown is the one that the metrics tell, if named.
	shown *Outcome
	named bool
}

func (c *constraint) selects(r resource) bool {
	return c.scope.Acts() && c.scope.Match.Selects(r.gvk.Group, r.gvk.Kind, r.namespaced)
}

// stale tells whether it is judged by data that is not followed any more.
func (c *constraint) stale() bool {
	return c.scope.Stale != "" && c.scope.Withheld == nil && c.scope.Acts()
}

func (c *constraint) readsNamespace() bool {
	return c.scope.Reads.Namespace || c.scope.Match.ReadsNamespace()
}

// mayConcern tells whether the constraint asks for objects of a group.
func (c *constraint) mayConcern(group string) bool {
	kinds := c.scope.Match.Kinds()
	for _, k := range kinds {
		if len(k.Groups) == 0 {
			return true
		}
		for _, g := range k.Groups {
			if g == group {
				return true
			}
		}
	}
	return len(kinds) == 0
}

// planned is what the last refresh went by beside the constraints, and when to
// look again.
type planned struct {
	resources []resource
	again     time.Duration
}

// refresh brings what is followed in line with what the constraints ask and
// the cluster serves. It returns when to look again. Without news of the
// constraints only what is served can be new.
func (a *Auditor) refresh(ctx context.Context, news bool) time.Duration {
	if !a.once && !a.namespaces.await(ctx) {
		return a.o.Timings.AuditSettle
	}
	a.metrics.requests.WithLabelValues(verbDiscover).Inc()
	discovered, failed := discoverResources(a.discovery)
	for group := range failed {
		a.metrics.errors.WithLabelValues(group, "", verbDiscover).Inc()
	}
	if !news && a.planned.again > 0 && len(failed) == 0 && slices.Equal(discovered, a.planned.resources) {
		return a.planned.again
	}
	a.planned = planned{}
	// Read after discovery, which takes a while.
	scopes := a.o.Reviewer.AuditScopes()
	a.updateAbsent()

	a.mu.Lock()
	resources := calm(discovered, scopes)
	gone := a.update(ctx, scopes, resources, failed)
	soon := len(failed) > 0 || a.asksForUnserved(resources)
	a.plan(failed)
	a.mu.Unlock()
	for _, k := range gone {
		k.stop()
	}
	again := a.o.Timings.AuditServed
	if soon {
		again = a.o.Timings.AuditServedSoon
	}
	if len(failed) == 0 {
		a.planned = planned{discovered, again}
	}
	return again
}

// plan notes that it is known what the constraints ask. As long as nothing is
// known of what the cluster serves there is nothing to say; only if that lasts,
// that is what there is to say.
func (a *Auditor) plan(failed map[string]error) {
	now := a.o.Clock.Now()
	if a.began.IsZero() {
		a.began = now
	}
	if a.firstPlan.IsZero() && (failed[everyGroup] == nil || now.Sub(a.began) > patience) {
		a.firstPlan = now
	}
}

// restless are kinds of which there is news all the time, and of which nobody
// waits for the news: the heartbeats of nodes and leaders, and records of what
// happened.
var restless = map[schema.GroupKind]bool{
	{Group: "coordination.k8s.io", Kind: "Lease"}: true,
	{Kind: "Event"}:                         true,
	{Group: "events.k8s.io", Kind: "Event"}: true,
}

// calm has restless kinds read now and then only, unless a constraint names
// them.
func calm(resources []resource, scopes []engine.AuditScope) []resource {
	named := map[string]bool{}
	for _, s := range scopes {
		for _, k := range s.Match.Kinds() {
			for _, kind := range k.Kinds {
				named[kind] = true
			}
		}
	}
	out := slices.Clone(resources)
	for i, r := range out {
		out[i].watched = r.watched && (!restless[r.gvk.GroupKind()] || named[r.gvk.Kind])
	}
	return out
}

// update returns the kinds that are not followed any more, for the caller to
// stop without the lock.
func (a *Auditor) update(ctx context.Context, scopes []engine.AuditScope, resources []resource, failed map[string]error) []*kind {
	a.constraints(scopes)
	if len(failed) > 0 || len(a.unserved) > 0 {
		for _, c := range a.known {
			a.touch(c)
		}
	}
	a.unserved, a.stirred = failed, true
	wanted := map[*kind]bool{}
	for _, r := range resources {
		selecting := a.selecting(r)
		if len(selecting) == 0 {
			continue
		}
		k := a.kinds[r.gvk.GroupKind()]
		if k == nil || k.resource != r {
			continue // is made below
		}
		wanted[k] = true
		k.concern(selecting)
	}
	var gone []*kind
	for gk, k := range a.kinds {
		selecting := a.selecting(k.resource)
		if wanted[k] {
			continue
		}
		if failedFor(failed, gk.Group) != nil && len(selecting) > 0 {
			k.concern(selecting)
			continue
		}
		k.forgetAll()
		delete(a.kinds, gk)
		gone = append(gone, k)
	}
	for _, r := range resources {
		if selecting := a.selecting(r); len(selecting) > 0 && a.kinds[r.gvk.GroupKind()] == nil {
			k := newKind(a, r)
			a.kinds[r.gvk.GroupKind()] = k
			k.concern(selecting)
			if !a.once {
				k.start(ctx)
			}
		}
	}
	return gone
}

// failedFor is why it is not known what a group serves, nil if it is.
func failedFor(failed map[string]error, group string) error {
	if err := failed[everyGroup]; err != nil {
		return err
	}
	return failed[group]
}

// constraints takes over what the engine knows.
func (a *Auditor) constraints(scopes []engine.AuditScope) {
	changed := false
	present := map[name]bool{}
	next := a.sequence + 1
	for _, s := range scopes {
		n := name{s.Kind, s.Name}
		present[n] = true
		c := a.known[n]
		if c == nil {
			c = &constraint{name: n}
			a.known[n] = c
		}
		if c.since == 0 || c.scope.Revision != s.Revision {
			a.reworded(c, s.Constraint)
			c.changed(s, next)
			changed = true
		}
		if c.scope.Data != s.Data {
			c.data, changed = next, true
		}
		if c.scope.Revision != s.Revision || c.scope.Generation != s.Generation || c.scope.Data != s.Data || c.scope.Stale != s.Stale {
			c.scope = s
			a.touch(c)
		}
	}
	for n, c := range a.known {
		if !present[n] {
			changed = true
			a.left(c)
			delete(a.known, n)
			delete(a.dirty, c)
			a.metrics.forget(c)
		}
	}
	if changed {
		a.sequence = next
	}
}

// changed notes that verdicts by the constraint may change with what it becomes.
func (c *constraint) changed(to engine.AuditScope, next uint64) {
	switch {
	case c.past == nil || c.scope.UID != to.UID:
		c.first, c.last, c.past = next, nil, &past{Constraint: to.Constraint, UID: to.UID}
	case c.scope.Withheld != nil && to.Withheld == nil:
		c.first = next
	case c.scope.Withheld == nil && to.Withheld != nil && c.last != nil:
		c.past = c.last.past()
	}
	c.since = next
}

// settle forgets what was found before, once all has been read.
func (c *constraint) settle(read bool) {
	if read {
		c.past = &past{Constraint: c.past.Constraint, UID: c.past.UID, recalled: true}
	}
}

func (a *Auditor) selecting(r resource) map[*constraint]bool {
	out := map[*constraint]bool{}
	for _, c := range a.known {
		if c.selects(r) {
			out[c] = true
		}
	}
	return out
}

// asksForUnserved tells whether a constraint names a kind that is not served.
func (a *Auditor) asksForUnserved(resources []resource) bool {
	have := map[string]bool{}
	for _, r := range resources {
		have[r.gvk.Kind] = true
	}
	for _, c := range a.known {
		for _, k := range c.scope.Match.Kinds() {
			for _, kind := range k.Kinds {
				if !have[kind] {
					return true
				}
			}
		}
	}
	return false
}
