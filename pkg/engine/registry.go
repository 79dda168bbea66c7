package engine

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// Scope says what a constraint wants to see at admission.
type Scope struct {
	Kind, Name string
	// UID and Generation tell which version of the constraint this is.
	UID        types.UID
	Generation int64
	Match      *match.Matcher
	// Operations are those of its template, as written; empty if it lists none.
	Operations []policy.Operation
}

// registry holds, beside the framework's client, what is judged by. Changes
// publish a new snapshot; reviews read one and wait for nothing.
type registry struct {
	mu         sync.Mutex
	operations map[string][]policy.Operation // by lower-case kind
	entries    map[string]map[string]*entry  // by lower-case kind and name
	current    atomic.Pointer[snapshot]
}

func newRegistry() *registry {
	r := &registry{operations: map[string][]policy.Operation{}, entries: map[string]map[string]*entry{}}
	r.current.Store(newSnapshot(nil))
	return r
}

func (r *registry) addTemplate(t *Template, program *rego.Program) {
	var ops []policy.Operation
	for _, op := range t.Spec.Targets[0].Operations {
		ops = append(ops, policy.Operation(op))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations[t.Name] = ops
	for name, x := range r.entries[t.Name] {
		changed := *x
		changed.program, changed.operations = program, ops
		r.entries[t.Name][name] = &changed
	}
	r.publish()
}

func (r *registry) removeTemplate(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.operations, name)
	delete(r.entries, name)
	r.publish()
}

func (r *registry) addConstraint(x *entry) {
	kind := strings.ToLower(x.kind)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries[kind] == nil {
		r.entries[kind] = map[string]*entry{}
	}
	x.operations = r.operations[kind]
	r.entries[kind][x.name] = x
	r.publish()
}

func (r *registry) removeConstraint(kind, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.entries[strings.ToLower(kind)], name)
	r.publish()
}

// publish is called with the lock held.
func (r *registry) publish() {
	var all []*entry
	for _, byName := range r.entries {
		for _, x := range byName {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
	})
	r.current.Store(newSnapshot(all))
}

// actsAt tells whether a constraint can change the answer to a request.
func actsAt(c policy.Constraint) bool { return c.Has(policy.Deny) || c.Has(policy.Warn) }

// AdmissionScopes returns what the constraints that can change the answer to an
// admission request want to see, sorted by kind and name.
func (e *Engine) AdmissionScopes() []Scope {
	var out []Scope
	for _, x := range e.registry.current.Load().entries {
		if x.kind != canaryPolicy && actsAt(x.at[policy.PointWebhook]) {
			out = append(out, Scope{
				Kind: x.kind, Name: x.name, UID: x.uid, Generation: x.generation, Match: x.match, Operations: x.operations,
			})
		}
	}
	return out
}
