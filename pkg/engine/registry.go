package engine

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// AuditScope says what a constraint wants to see of what exists.
type AuditScope struct {
	match.Need
	// Constraint is the constraint as it acts at audit.
	Constraint policy.Constraint
	// Revision changes with everything that may change a verdict: the
	// constraint's spec, its identity and its template.
	Revision uint64
	// Reads is what of a review its template may read.
	Reads Reads
	// Withheld is why the constraint is not judged by: data that it reads is
	// not complete. Nil if it is.
	Withheld error
	// Stale says what of that data is not followed any more, and since when, so
	// that verdicts may be those of then; empty if all of it is.
	Stale string
	// Data changes with the objects that its template reads in data.inventory.
	Data uint64
}

// Acts tells whether the constraint asks for anything at audit.
func (s AuditScope) Acts() bool { return s.Constraint.Asks() }

// registry holds what is judged by. Changes publish a new snapshot; reviews read
// one and wait for nothing.
type registry struct {
	mu         sync.Mutex
	operations map[string][]policy.Operation  // by lower-case kind
	entries    map[string]map[string]*entry   // by lower-case kind and name
	reads      map[string]Reads               // by lower-case kind
	timers     map[string]func(time.Duration) // by lower-case kind
	needs      map[string]Need                // by lower-case kind, of those that read data.inventory
	withheld   map[string]error               // by lower-case kind: why data is not complete
	stale      map[string]string              // by lower-case kind: which data is not followed any more
	awaits     bool                           // whether anybody will say that it is
	current    atomic.Pointer[snapshot]
	edits      edits // since the current snapshot
	revision   uint64
	changed    chan struct{}
}

func newRegistry() *registry {
	r := &registry{
		operations: map[string][]policy.Operation{}, entries: map[string]map[string]*entry{}, reads: map[string]Reads{},
		timers: map[string]func(time.Duration){}, needs: map[string]Need{}, withheld: map[string]error{}, stale: map[string]string{}, changed: make(chan struct{}),
	}
	r.current.Store(&snapshot{})
	return r
}

func (r *registry) addTemplate(t *Template, program *rego.Program, timer func(time.Duration)) {
	var ops []policy.Operation
	for _, op := range t.Spec.Targets[0].Operations {
		ops = append(ops, policy.Operation(op))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations[t.Name], r.reads[t.Name], r.timers[t.Name] = ops, program.Reads(), timer
	r.setNeed(needOf(t, program.Inventory()))
	r.revision++
	r.change(t.Name, func(x *entry) {
		x.program, x.operations, x.reads, x.timer = program, ops, r.reads[t.Name], timer
		x.revision, x.withheld, x.stale = r.revision, r.withheld[t.Name], r.stale[t.Name]
	})
	r.publish()
	r.notify()
}

// has tells whether there are constraints of a template.
func (r *registry) has(template string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries[template]) > 0
}

func (r *registry) removeTemplate(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.operations, name)
	delete(r.timers, name)
	delete(r.reads, name)
	delete(r.needs, name)
	delete(r.withheld, name)
	delete(r.stale, name)
	for _, x := range r.entries[name] {
		r.edits.remove(x)
	}
	delete(r.entries, name)
	r.publish()
	r.notify()
}

func (r *registry) addConstraint(x *entry) {
	kind := strings.ToLower(x.kind)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries[kind] == nil {
		r.entries[kind] = map[string]*entry{}
	}
	x.operations, x.reads, x.timer = r.operations[kind], r.reads[kind], r.timers[kind]
	x.withheld, x.stale = r.withheld[kind], r.stale[kind]
	before := r.entries[kind][x.name]
	r.entries[kind][x.name] = x
	r.edits.add(x)
	if before != nil {
		r.edits.remove(before)
		x.data = before.data
	}
	if before != nil && before.uid == x.uid && before.spec == x.spec {
		x.revision = before.revision
		r.publish()
		if before.generation != x.generation {
			r.notify() // nothing is judged anew, but it is said of another version
		}
		return
	}
	r.revision++
	x.revision = r.revision
	r.publish()
	r.notify()
}

// notify wakes who waits. The caller holds the lock, and has published what is
// new.
func (r *registry) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *registry) removeConstraint(kind, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.entries[strings.ToLower(kind)][name]
	if x == nil {
		return
	}
	r.edits.remove(x)
	delete(r.entries[strings.ToLower(kind)], name)
	r.publish()
	r.notify()
}

// publish is called with the lock held.
func (r *registry) publish() {
	r.current.Store(r.current.Load().with(r.edits))
	r.edits = edits{}
}

// AdmissionScopes returns what the constraints that can change the answer to an
// admission request want to see, sorted by kind and name.
func (e *Engine) AdmissionScopes() []match.Need {
	var out []match.Need
	for _, x := range e.registry.current.Load().entries {
		if !x.canary && x.on(policy.PointWebhook).ActsOnRequests() {
			out = append(out, match.Need{
				Kind: x.kind, Name: x.name, UID: x.uid, Generation: x.generation, Match: x.match, Operations: x.operations,
				Scales: x.reads.MayReadObject(replicas...),
			})
		}
	}
	return out
}

// AuditScopes returns what the constraints want to see at audit, sorted by kind
// and name.
func (e *Engine) AuditScopes() []AuditScope {
	var out []AuditScope
	for _, x := range e.registry.current.Load().entries {
		if x.canary {
			continue
		}
		out = append(out, AuditScope{
			Need:       match.Need{Kind: x.kind, Name: x.name, UID: x.uid, Generation: x.generation, Match: x.match, Operations: x.operations},
			Constraint: x.on(policy.PointAudit), Revision: x.revision, Reads: x.reads,
			Withheld: x.withheld, Stale: x.stale, Data: x.data,
		})
	}
	return out
}

// Changed returns what is closed once templates or constraints have changed in
// a way that may change a verdict. Who wants to miss nothing calls it before
// AuditScopes.
func (e *Engine) Changed() <-chan struct{} {
	e.registry.mu.Lock()
	defer e.registry.mu.Unlock()
	return e.registry.changed
}
