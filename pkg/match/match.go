// Package match compiles the spec.match block of a constraint, once, to a
// predicate on reviews. It stands between the constraint and the engine: what
// it says no to is never evaluated. The semantics are Gatekeeper's, so that
// existing constraints select the same objects. Schema is the same knowledge
// as an OpenAPI schema, for the CRDs that constraints are stored under.
package match

import (
	"fmt"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Scope is the value of a match block's scope. Any value but ScopeCluster and
// ScopeNamespaced matches everything, as in Gatekeeper.
type Scope string

// The scopes that narrow a match.
const (
	ScopeCluster    Scope = "Cluster"
	ScopeNamespaced Scope = "Namespaced"
)

// sourceAll is the value of a match block's source that asks for every source.
const sourceAll policy.Source = "All"

// Matcher is a compiled match block. All its clauses must hold; a clause that
// is absent or empty holds for everything. The zero value and nil match every
// review. A Matcher is immutable and safe for concurrent use.
type Matcher struct {
	kinds              []kindSet
	scope              Scope
	source             policy.Source
	namespaces         globs
	excludedNamespaces globs
	name               glob
	hasName            bool
	// The selectors are nil when they select everything.
	labels          labels.Selector
	namespaceLabels labels.Selector
}

// Match reports whether the constraint applies to r. The object and the old
// object are both tested and either may match, so that an update cannot leave
// a policy's reach unseen. A review with neither is matched by what its
// request says.
//
// The error means that it could not be decided: everything else matches, the
// object is namespaced, its namespace is not known and the namespaceSelector
// needs its labels.
func (m *Matcher) Match(r *policy.Review) (bool, error) {
	if m == nil {
		return true, nil
	}
	if !m.matchesSource(r.Source) || !m.matchesKind(r) {
		return false, nil
	}
	if r.Object == nil && r.OldObject == nil {
		return m.matchObject(r, nil)
	}
	return m.matchEither(r)
}

func (m *Matcher) matchEither(r *policy.Review) (bool, error) {
	var undecided error
	for _, object := range [...]map[string]any{r.Object, r.OldObject} {
		if object == nil {
			continue
		}
		matched, err := m.matchObject(r, object)
		if matched {
			return true, nil
		}
		if undecided == nil {
			undecided = err
		}
	}
	return false, undecided
}

// matchObject tests the clauses that depend on the object. The
// namespaceSelector comes last: only it can fail, and it must not fail for an
// object that another clause excludes.
func (m *Matcher) matchObject(r *policy.Review, object map[string]any) (bool, error) {
	s := subjectOf(r, object)
	if !m.matchesScope(s) || !m.matchesNamespace(s) || !m.matchesName(s) {
		return false, nil
	}
	if m.labels != nil && !m.labels.Matches(s.labels) {
		return false, nil
	}
	return m.matchesNamespaceLabels(r, s)
}

func (m *Matcher) matchesSource(source policy.Source) bool {
	if m.source == "" {
		return true
	}
	if source == "" {
		source = policy.SourceOriginal
	}
	return m.source == source
}

func (m *Matcher) matchesKind(r *policy.Review) bool {
	for _, k := range m.kinds {
		if k.groups.has(r.Kind.Group) && k.kinds.has(r.Kind.Kind) {
			return true
		}
	}
	return len(m.kinds) == 0
}

func (m *Matcher) matchesScope(s subject) bool {
	namespaced := !s.isNamespace && s.namespace != ""
	switch m.scope {
	case ScopeCluster:
		return !namespaced
	case ScopeNamespaced:
		return namespaced
	default:
		return true
	}
}

func (m *Matcher) matchesNamespace(s subject) bool {
	if s.outsideNamespaces() {
		return true
	}
	if m.excludedNamespaces.match(s.namespace) {
		return false
	}
	return m.namespaces.empty() || m.namespaces.match(s.namespace)
}

func (m *Matcher) matchesName(s subject) bool {
	return !m.hasName || m.name.match(s.name) || m.name.matchGenerated(s.generateName)
}

func (m *Matcher) matchesNamespaceLabels(r *policy.Review, s subject) (bool, error) {
	switch {
	case m.namespaceLabels == nil || s.outsideNamespaces():
		return true, nil
	case s.isNamespace:
		return m.namespaceLabels.Matches(s.labels), nil
	case !r.NamespaceObject.Known:
		return false, fmt.Errorf("spec.match.namespaceSelector: namespace %q is not known, so its labels cannot be compared", s.namespace)
	default:
		return m.namespaceLabels.Matches(labelsOf(metadataOf(r.NamespaceObject.Object))), nil
	}
}
