package engine

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
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

// registry remembers, beside the framework's client, what reaches of the
// constraints beyond the engine.
type registry struct {
	mu         sync.RWMutex
	operations map[string][]policy.Operation // by lower-case kind
	scopes     map[string]map[string]Scope   // by lower-case kind and name
}

func newRegistry() *registry {
	return &registry{operations: map[string][]policy.Operation{}, scopes: map[string]map[string]Scope{}}
}

func (r *registry) addTemplate(t *Template) {
	var ops []policy.Operation
	for _, op := range t.Spec.Targets[0].Operations {
		ops = append(ops, policy.Operation(op))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations[t.Name] = ops
}

func (r *registry) removeTemplate(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.operations, name)
	delete(r.scopes, name)
}

func (r *registry) addConstraint(c *unstructured.Unstructured) error {
	if !actsAt(describe(c, policy.PointWebhook)) {
		r.removeConstraint(c.GetKind(), c.GetName())
		return nil
	}
	m, err := compileMatch(c)
	if err != nil {
		return err
	}
	kind := strings.ToLower(c.GetKind())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scopes[kind] == nil {
		r.scopes[kind] = map[string]Scope{}
	}
	r.scopes[kind][c.GetName()] = Scope{
		Kind: c.GetKind(), Name: c.GetName(), UID: c.GetUID(), Generation: c.GetGeneration(), Match: m,
	}
	return nil
}

// actsAt tells whether a constraint can change the answer to a request.
func actsAt(c policy.Constraint) bool { return c.Has(policy.Deny) || c.Has(policy.Warn) }

func (r *registry) removeConstraint(kind, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.scopes[strings.ToLower(kind)], name)
}

// AdmissionScopes returns what the constraints that can change the answer to an
// admission request want to see, sorted by kind and name.
func (e *Engine) AdmissionScopes() []Scope {
	r := e.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Scope
	for kind, byName := range r.scopes {
		for _, s := range byName {
			s.Operations = r.operations[kind]
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Scope) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return out
}
