package engine

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/fusegate/fusegate/pkg/match"
)

// snapshot is all constraints at one time, found by the kinds that they match.
// It is immutable; the next one shares with it what did not change. All lists
// are sorted by kind and name.
//
// A constraint is in as many lists as it has kinds, at most maxIndexed, and in
// no other's: what the snapshot takes grows with the constraints, not with the
// product of those that name kinds and those that do not.
type snapshot struct {
	entries []*entry
	// byKind are the constraints that name a kind.
	byKind map[string][]*entry
	// others are the constraints on every kind, or on too many to list.
	others []*entry
}

// maxIndexed is by how many kinds a constraint is found at most. One that names
// more is looked at for every object, and so costs reviews a look, not the
// snapshot a list for each kind.
const maxIndexed = 100

// of yields the constraints that may match objects of a kind, sorted.
func (s *snapshot) of(kind string) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		named, others := s.byKind[kind], s.others
		for len(named) > 0 || len(others) > 0 {
			next := &others
			if len(others) == 0 || len(named) > 0 && compareEntries(named[0], others[0]) < 0 {
				next = &named
			}
			if !yield((*next)[0]) {
				return
			}
			*next = (*next)[1:]
		}
	}
}

// kindsOf lists the kinds, of whatever group, that a matcher takes, sorted; nil
// if they cannot be listed, or are more than maxIndexed.
func kindsOf(m *match.Matcher) []string {
	var out []string
	for _, k := range m.Kinds() {
		if k.Kinds == nil {
			return nil
		}
		out = append(out, k.Kinds...)
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > maxIndexed {
		return nil
	}
	return out
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

// touch tells which kinds the edits concern.
func (e *edits) touch() (kinds map[string]bool) {
	kinds = map[string]bool{}
	note := func(x *entry) {
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
	return kinds
}

// with returns the snapshot after the edits.
func (s *snapshot) with(e edits) *snapshot {
	e.added = slices.DeleteFunc(e.added, func(x *entry) bool { return e.removed[x] })
	slices.SortFunc(e.added, compareEntries)
	everything := func(*entry) bool { return true }
	out := &snapshot{
		entries: e.apply(s.entries, everything), byKind: maps.Clone(s.byKind),
		others: e.apply(s.others, func(x *entry) bool { return x.kinds == nil }),
	}
	if out.byKind == nil {
		out.byKind = map[string][]*entry{}
	}
	for kind := range e.touch() {
		list := e.apply(s.byKind[kind], func(x *entry) bool {
			_, names := slices.BinarySearch(x.kinds, kind)
			return names
		})
		out.byKind[kind] = list
		if len(list) == 0 {
			delete(out.byKind, kind)
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
