package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fusegate/fusegate/pkg/match"
)

// TestSnapshotWith compares snapshots that grow out of each other with lists
// made anew.
func TestSnapshotWith(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []string{"ConfigMap", "Deployment", "Namespace", "Pod"}
	held, s := map[string]*entry{}, &snapshot{}
	for step := range 2000 {
		e := edits{}
		for range 1 + r.IntN(4) {
			name := fmt.Sprint(r.IntN(30))
			if before := held[name]; before != nil {
				e.remove(before)
				delete(held, name)
			}
			if r.IntN(3) == 0 {
				continue
			}
			x := &entry{kind: "K", name: name}
			for _, k := range kinds {
				if r.IntN(3) == 0 {
					x.kinds = append(x.kinds, k)
				}
			}
			held[name] = x
			e.add(x)
		}
		s = s.with(e)
		for _, kind := range append(kinds, "Other", "") {
			var want []*entry
			for _, x := range held {
				if kind == "" || x.kinds == nil || slices.Contains(x.kinds, kind) {
					want = append(want, x)
				}
			}
			slices.SortFunc(want, compareEntries)
			got := slices.Collect(s.of(kind))
			if kind == "" {
				got = s.entries
			}
			if !slices.Equal(got, want) {
				t.Fatalf("step %d, kind %q: got %d constraints, want %d", step, kind, len(got), len(want))
			}
		}
		if len(s.byKind) > len(kinds) {
			t.Fatalf("step %d: %d kinds are kept", step, len(s.byKind))
		}
	}
}

// TestSnapshotIsBounded: a constraint on very many kinds is found for each of
// them, and costs the index nothing.
func TestSnapshotIsBounded(t *testing.T) {
	many := make([]string, maxIndexed+1)
	for i := range many {
		many[i] = fmt.Sprintf("Kind%d", i)
	}
	for name, tc := range map[string]struct {
		kinds   []string
		indexed int
	}{"AsManyAsAreIndexed": {many[:maxIndexed], maxIndexed}, "More": {many, 0}} {
		m, err := match.Compile(map[string]any{"kinds": []any{map[string]any{"apiGroups": []any{""}, "kinds": anyOf(tc.kinds)}}})
		if err != nil {
			t.Fatal(err)
		}
		e := edits{}
		e.add(&entry{kind: "K", name: "x", match: m, kinds: kindsOf(m)})
		s := (&snapshot{}).with(e)
		for _, kind := range tc.kinds {
			if n := len(slices.Collect(s.of(kind))); n != 1 {
				t.Errorf("%s: %d constraints are found for %s, want 1", name, n, kind)
			}
		}
		if len(s.byKind) != tc.indexed {
			t.Errorf("%s: %d lists, want %d", name, len(s.byKind), tc.indexed)
		}
	}
}

func anyOf(texts []string) []any {
	out := make([]any, len(texts))
	for i, text := range texts {
		out[i] = text
	}
	return out
}
