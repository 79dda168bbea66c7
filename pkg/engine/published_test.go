package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
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
			got := s.of(kind)
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
