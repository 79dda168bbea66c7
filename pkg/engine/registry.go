package engine

import (
	"cmp"
	"reflect"
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

// AuditScope says what a constraint wants to see of what exists.
type AuditScope struct {
	Scope
	// Constraint is the constraint as it acts at audit.
	Constraint policy.Constraint
	// Revision changes with everything that may change a verdict: the
	// constraint's spec, its identity and its template.
	Revision uint64
	// Reads is what of a review its template may read.
	Reads Reads
}

// registry remembers, beside the framework's client, what reaches of the
// constraints beyond the engine.
type registry struct {
	mu          sync.RWMutex
	templates   map[string]templateEntry              // by lower-case kind
	constraints map[string]map[string]constraintEntry // by lower-case kind and name
	revision    uint64
	changed     chan struct{}
}

type templateEntry struct {
	operations []policy.Operation
	reads      Reads
}

type constraintEntry struct {
	scope     Scope
	admission bool
	audit     policy.Constraint
	spec      any
	revision  uint64
}

func newRegistry() *registry {
	return &registry{
		templates: map[string]templateEntry{}, constraints: map[string]map[string]constraintEntry{},
		changed: make(chan struct{}),
	}
}

// touch gives out a new revision and wakes who waits. The caller holds the lock.
func (r *registry) touch() uint64 {
	close(r.changed)
	r.changed = make(chan struct{})
	r.revision++
	return r.revision
}

func (r *registry) addTemplate(t *Template) {
	e := templateEntry{reads: readsOf(t)}
	for _, op := range t.Spec.Targets[0].Operations {
		e.operations = append(e.operations, policy.Operation(op))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.templates[t.Name] = e
	revision := r.touch()
	for name, c := range r.constraints[t.Name] {
		c.revision = revision
		r.constraints[t.Name][name] = c
	}
}

func (r *registry) removeTemplate(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.templates, name)
	delete(r.constraints, name)
	r.touch()
}

func (r *registry) addConstraint(c *unstructured.Unstructured) error {
	m, err := compileMatch(c)
	if err != nil {
		return err
	}
	e := constraintEntry{
		scope:     Scope{Kind: c.GetKind(), Name: c.GetName(), UID: c.GetUID(), Generation: c.GetGeneration(), Match: m},
		admission: actsAt(describe(c, policy.PointWebhook)),
		audit:     describe(c, policy.PointAudit),
		spec:      c.DeepCopy().Object["spec"],
	}
	kind := strings.ToLower(c.GetKind())
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.constraints[kind][c.GetName()]
	if known && before.scope.UID == e.scope.UID && reflect.DeepEqual(before.spec, e.spec) {
		e.revision = before.revision
	} else {
		e.revision = r.touch()
	}
	if r.constraints[kind] == nil {
		r.constraints[kind] = map[string]constraintEntry{}
	}
	r.constraints[kind][c.GetName()] = e
	return nil
}

// actsAt tells whether a constraint can change the answer to a request.
func actsAt(c policy.Constraint) bool { return c.Has(policy.Deny) || c.Has(policy.Warn) }

func (r *registry) removeConstraint(kind, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.constraints[strings.ToLower(kind)][name]; !known {
		return
	}
	delete(r.constraints[strings.ToLower(kind)], name)
	r.touch()
}

// AdmissionScopes returns what the constraints that can change the answer to an
// admission request want to see, sorted by kind and name.
func (e *Engine) AdmissionScopes() []Scope {
	var out []Scope
	e.registry.each(func(t templateEntry, c constraintEntry) {
		if c.admission {
			c.scope.Operations = t.operations
			out = append(out, c.scope)
		}
	})
	slices.SortFunc(out, compareScopes)
	return out
}

// Acts tells whether the constraint asks for anything at audit.
func (s AuditScope) Acts() bool { return actsAt(s.Constraint) || s.Constraint.Has(policy.DryRun) }

// AuditScopes returns what the constraints want to see at audit, sorted by kind
// and name.
func (e *Engine) AuditScopes() []AuditScope {
	var out []AuditScope
	e.registry.each(func(t templateEntry, c constraintEntry) {
		c.scope.Operations = t.operations
		out = append(out, AuditScope{Scope: c.scope, Constraint: c.audit, Revision: c.revision, Reads: t.reads})
	})
	slices.SortFunc(out, func(a, b AuditScope) int { return compareScopes(a.Scope, b.Scope) })
	return out
}

// Changed returns what is closed once templates or constraints have changed in
// a way that may change a verdict. Who wants to miss nothing calls it before
// AuditScopes.
func (e *Engine) Changed() <-chan struct{} {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	return e.registry.changed
}

func (r *registry) each(visit func(templateEntry, constraintEntry)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for kind, byName := range r.constraints {
		for _, c := range byName {
			visit(r.templates[kind], c)
		}
	}
}

func compareScopes(a, b Scope) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}
