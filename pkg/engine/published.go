package engine

import (
	"cmp"
	"slices"

	"github.com/fusegate/fusegate/pkg/match"
)

// snapshot is all constraints at one time, found by the kinds that they match.
// It is immutable; the next one shares with it what did not change. All lists
// are sorted by kind and name.
type snapshot struct {
	entries []*entry
	byKind  map[string][]*entry
	// others are the constraints on every kind.
	others []*entry
}

// of returns the constraints that may match objects of a kind.
func (s *snapshot) of(kind string) []*entry {
	if found, ok := s.byKind[kind]; ok {
		return found
	}
	return s.others
}

// kindsOf lists the kinds, of whatever group, that a matcher takes, sorted; nil
// if they cannot be listed.
func kindsOf(m *match.Matcher) []string {
	var out []string
	for _, k := range m.Kinds() {
		if k.Kinds == nil {
			return nil
		}
		out = append(out, k.Kinds...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// edits are the differences between two snapshots. An entry that is both added
// and removed is in neither.
type edits struct {
	added   []*entry
	removed map[*entry]bool
}

func (e *edits) add(x *entry) { e.added = append(e.added, x) }

func (e *edits) remove(x *entry) {
	if e.removed == nil {
		e.removed = map[*entry]bool{}
	}
	e.removed[x] = true
}

// touch tells which kinds the edits concern, and whether all.
func (e *edits) touch() (kinds map[string]bool, all bool) {
	kinds = map[string]bool{}
	note := func(x *entry) {
		all = all || x.kinds == nil
		for _, k := range x.kinds {
			kinds[k] = true
		}
	}
	for x := range e.removed {
		note(x)
	}
	for _, x := range e.added {
		note(x)
	}
	return kinds, all
}

// with returns the snapshot after the edits.
func (s *snapshot) with(e edits) *snapshot {
	e.added = slices.DeleteFunc(e.added, func(x *entry) bool { return e.removed[x] })
	slices.SortFunc(e.added, compareEntries)
	everything := func(*entry) bool { return true }
	out := &snapshot{
		entries: e.apply(s.entries, everything), byKind: make(map[string][]*entry, len(s.byKind)),
		others: e.apply(s.others, func(x *entry) bool { return x.kinds == nil }),
	}
	touched, all := e.touch()
	for kind, list := range s.byKind {
		if !all && !touched[kind] {
			out.byKind[kind] = list
			continue
		}
		touched[kind] = true
	}
	for kind := range touched {
		list := e.apply(s.of(kind), func(x *entry) bool { return x.kinds == nil || slices.Contains(x.kinds, kind) })
		if slices.ContainsFunc(list, func(x *entry) bool { return x.kinds != nil }) {
			out.byKind[kind] = list
		}
	}
	return out
}

// apply returns a list without what is removed, and with what is added and
// belongs there.
func (e *edits) apply(list []*entry, belongs func(*entry) bool) []*entry {
	out := make([]*entry, 0, len(list)+len(e.added))
	added := e.added
	for _, x := range list {
		for len(added) > 0 && compareEntries(added[0], x) < 0 {
			if belongs(added[0]) {
				out = append(out, added[0])
			}
			added = added[1:]
		}
		if !e.removed[x] {
			out = append(out, x)
		}
	}
	for _, x := range added {
		if belongs(x) {
			out = append(out, x)
		}
	}
	return slices.Clip(out)
}

func compareEntries(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
}
