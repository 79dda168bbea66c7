package match

import "github.com/fusegate/fusegate/pkg/policy"

// subject is what the clauses compare: the identity of one object of a review.
type subject struct {
	name, generateName string
	// namespace is where the object lives; for a Namespace, its own name.
	namespace   string
	isNamespace bool
	labels      labelSet
}

// subjectOf reads the subject from an object, which may be nil. What the
// object does not say is taken from the request: options of a CONNECT carry no
// metadata, and a created object need not repeat its namespace.
func subjectOf(r *policy.Review, object map[string]any) subject {
	metadata := metadataOf(object)
	s := subject{
		name:         textOf(metadata, "name"),
		generateName: textOf(metadata, "generateName"),
		namespace:    r.Namespace,
		isNamespace:  r.IsNamespace(),
		labels:       labelsOf(metadata),
	}
	if s.name == "" && s.generateName == "" {
		s.name = r.Name
	}
	if s.isNamespace {
		s.namespace = s.name
		return s
	}
	if s.namespace == "" {
		s.namespace = textOf(metadata, "namespace")
	}
	return s
}

// outsideNamespaces tells whether no namespace has a say in the object: it is
// cluster-scoped and not itself a Namespace.
func (s subject) outsideNamespaces() bool {
	return !s.isNamespace && s.namespace == ""
}

// labelSet is metadata.labels as decoded JSON, readable by a label selector
// without conversion. A value that is no string counts as absent.
type labelSet map[string]any

// Has implements labels.Labels.
func (l labelSet) Has(key string) bool {
	_, ok := l[key].(string)
	return ok
}

// Get implements labels.Labels.
func (l labelSet) Get(key string) string {
	value, _ := l[key].(string)
	return value
}

// Lookup implements labels.Labels.
func (l labelSet) Lookup(key string) (string, bool) {
	value, ok := l[key].(string)
	return value, ok
}

func metadataOf(object map[string]any) map[string]any {
	metadata, _ := object["metadata"].(map[string]any)
	return metadata
}

func labelsOf(metadata map[string]any) labelSet {
	l, _ := metadata["labels"].(map[string]any)
	return l
}

func textOf(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}
