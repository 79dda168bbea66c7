package match

import (
	"maps"
	"slices"

	"github.com/fusegate/fusegate/pkg/policy"
)

// wildcard stands for every group or every kind.
const wildcard = "*"

// Kinds is one entry of a match block's kinds: every kind of Kinds in every
// group of Groups. A nil list means any. Versions play no part.
type Kinds struct {
	Groups []string
	Kinds  []string
}

// Kinds lists the kinds that can match, sorted within each entry, entries in
// the order in which they were declared. Nil means every kind. The lists are
// the caller's.
func (m *Matcher) Kinds() []Kinds {
	if m == nil {
		return nil
	}
	var out []Kinds
	for _, k := range m.kinds {
		if k.groups == nil && k.kinds == nil {
			return nil
		}
		out = append(out, Kinds{Groups: slices.Clone(k.groupList), Kinds: slices.Clone(k.kindList)})
	}
	return out
}

// Scope returns the scope as declared. Only ScopeCluster and ScopeNamespaced
// narrow the match.
func (m *Matcher) Scope() Scope {
	if m == nil {
		return ""
	}
	return m.scope
}

// Namespaces returns the patterns of the namespaces that can match, as
// declared. Empty means every namespace. The list is the caller's.
func (m *Matcher) Namespaces() []string {
	if m == nil {
		return nil
	}
	return slices.Clone(m.namespaces.written)
}

// kindSet is a compiled Kinds. The lists are those of the sets, sorted.
type kindSet struct {
	groups, kinds       set
	groupList, kindList []string
}

func newKindSet(groups, kinds []string) kindSet {
	k := kindSet{groups: newSet(groups), kinds: newSet(kinds)}
	k.groupList, k.kindList = k.groups.sorted(), k.kinds.sorted()
	return k
}

// set is a set of strings; nil holds every string.
type set map[string]struct{}

// newSet makes a set of what a match block lists: nothing and a wildcard both
// stand for everything.
func newSet(items []string) set {
	if len(items) == 0 || slices.Contains(items, wildcard) {
		return nil
	}
	s := make(set, len(items))
	for _, item := range items {
		s[item] = struct{}{}
	}
	return s
}

func (s set) has(item string) bool {
	if s == nil {
		return true
	}
	_, ok := s[item]
	return ok
}

func (s set) sorted() []string {
	return slices.Sorted(maps.Keys(s))
}

// Selects reports whether objects of a group and kind can match, going by the
// kinds and the scope alone.
func (m *Matcher) Selects(group, kind string, namespaced bool) bool {
	if m == nil {
		return true
	}
	r := policy.Review{}
	r.Kind.Group, r.Kind.Kind = group, kind
	if !m.matchesKind(&r) {
		return false
	}
	s := subject{isNamespace: r.IsNamespace()}
	if namespaced {
		s.namespace = "any"
	}
	return m.matchesScope(s)
}

// ReadsNamespace reports whether it depends on the labels of an object's
// namespace whether the object matches.
func (m *Matcher) ReadsNamespace() bool { return m != nil && m.namespaceLabels != nil }
