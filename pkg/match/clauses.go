package match

import (
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Name returns the pattern of the names that can match, as compiled. Empty
// means every name.
func (m *Matcher) Name() string {
	if m == nil || !m.hasName {
		return ""
	}
	return m.name.String()
}

// Source returns the source that can match; empty means every source.
func (m *Matcher) Source() policy.Source {
	if m == nil {
		return ""
	}
	return m.source
}

// LabelSelector returns the selector of the objects' labels. It is nil when it
// selects everything.
func (m *Matcher) LabelSelector() labels.Selector {
	if m == nil {
		return nil
	}
	return m.labels
}

// NamespaceSelector returns the selector of the namespaces' labels. It is nil
// when it selects everything.
func (m *Matcher) NamespaceSelector() labels.Selector {
	if m == nil {
		return nil
	}
	return m.namespaceLabels
}

// SelectsNamespace tells whether namespaces, excludedNamespaces and
// namespaceSelector select what lives in the namespace of that name with those
// labels. The other clauses have no part in it.
func (m *Matcher) SelectsNamespace(name string, namespaceLabels map[string]string) bool {
	if m == nil {
		return true
	}
	return m.matchesNamespace(subject{namespace: name}) &&
		(m.namespaceLabels == nil || m.namespaceLabels.Matches(labels.Set(namespaceLabels)))
}
