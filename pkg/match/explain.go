package match

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Clause is what one clause of a match block makes of one object of a review.
type Clause struct {
	// Object is "object" or "oldObject".
	Object string `json:"object"`
	// Field is the clause's name in the match block.
	Field string `json:"field"`
	// Holds tells whether the object passes it.
	Holds bool `json:"holds"`
	// Why compares what the object has with what the clause wants.
	Why string `json:"why"`
}

// Explain goes through the clauses that the match block has, for each object of
// the review, in the order in which Match does. Match reports true if all clauses
// hold for one of the objects.
func (m *Matcher) Explain(r *policy.Review) []Clause {
	if m == nil {
		return nil
	}
	var out []Clause
	if r.Object != nil || r.OldObject == nil {
		out = m.explain(r, r.Object, "object")
	}
	if r.OldObject != nil {
		out = append(out, m.explain(r, r.OldObject, "oldObject")...)
	}
	return out
}

func (m *Matcher) explain(r *policy.Review, object map[string]any, name string) []Clause {
	s := subjectOf(r, object)
	var out []Clause
	add := func(declared bool, field string, holds bool, why string) {
		if declared {
			out = append(out, Clause{Object: name, Field: field, Holds: holds, Why: why})
		}
	}
	add(m.source != "", "source", m.matchesSource(r.Source), fmt.Sprintf("%s is wanted", m.source))
	add(len(m.kinds) > 0, "kinds", m.matchesKind(r), fmt.Sprintf("it is %s; wanted %s", kindText(r), m.kindsText()))
	add(m.scope != "", "scope", m.matchesScope(s), fmt.Sprintf("it is %s; wanted %s", scopeText(s), m.scope))
	add(!m.excludedNamespaces.empty(), "excludedNamespaces", s.outsideNamespaces() || !m.excludedNamespaces.match(s.namespace),
		fmt.Sprintf("%s; left out are %s", whereText(s), strings.Join(m.excludedNamespaces.written, ", ")))
	add(!m.namespaces.empty(), "namespaces", s.outsideNamespaces() || m.namespaces.match(s.namespace),
		fmt.Sprintf("%s; wanted %s", whereText(s), strings.Join(m.namespaces.written, ", ")))
	add(m.hasName, "name", m.matchesName(s), fmt.Sprintf("it is called %q; wanted %s", s.name+s.generateName, m.name))
	add(m.labels != nil, "labelSelector", m.labels == nil || m.labels.Matches(s.labels),
		fmt.Sprintf("its labels are %s; wanted %v", labelText(s.labels), m.labels))
	matched, err := m.matchesNamespaceLabels(r, s)
	add(m.namespaceLabels != nil, "namespaceSelector", matched, m.namespaceText(r, s, err))
	return out
}

func kindText(r *policy.Review) string {
	if r.Kind.Group == "" {
		return r.Kind.Kind + " of the core group"
	}
	return r.Kind.Kind + " of " + r.Kind.Group
}

func (m *Matcher) kindsText() string {
	var out []string
	for _, k := range m.kinds {
		out = append(out, fmt.Sprintf("%s of %s", k.kinds.text("any kind"), k.groups.text("any group")))
	}
	return strings.Join(out, ", or ")
}

// text lists a set whose nil is every.
func (s set) text(every string) string {
	if s == nil {
		return every
	}
	items := s.sorted()
	if i := slices.Index(items, ""); i >= 0 {
		items[i] = "the core group"
	}
	return strings.Join(items, " or ")
}

func scopeText(s subject) string {
	if s.isNamespace || s.namespace == "" {
		return string(ScopeCluster)
	}
	return string(ScopeNamespaced)
}

func whereText(s subject) string {
	switch {
	case s.outsideNamespaces():
		return "it lives in no namespace, which passes"
	case s.isNamespace:
		return fmt.Sprintf("it is namespace %q", s.namespace)
	}
	return fmt.Sprintf("it lives in namespace %q", s.namespace)
}

func (m *Matcher) namespaceText(r *policy.Review, s subject, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("it cannot be decided: the labels of namespace %q are not known", s.namespace)
	case s.outsideNamespaces():
		return whereText(s)
	case s.isNamespace:
		return fmt.Sprintf("its own labels are %s; wanted %v", labelText(s.labels), m.namespaceLabels)
	}
	return fmt.Sprintf("the labels of namespace %q are %s; wanted %v", s.namespace, labelText(labelsOf(metadataOf(r.NamespaceObject.Object))), m.namespaceLabels)
}

func labelText(l labelSet) string {
	if len(l) == 0 {
		return "none"
	}
	out := labels.Set{}
	for key := range l {
		if l.Has(key) {
			out[key] = l.Get(key)
		}
	}
	return out.String()
}
