package value_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// leaves are scalars in all the forms in which they come.
var leaves = []any{
	value.Null{}, true, false, "", "a", "b", "10", "\u00e9", int64(0), int64(1), int64(-1), int64(10), int64(1) << 53, int64(1)<<53 + 1, int64(1)<<62 + 1,
	0.0, 1.0, 1.5, -0.5, 1e6, 1e21, 1e300, ast.Number("1.0"), ast.Number("1e0"), ast.Number("9007199254740993"),
	ast.Number("100000000000000000000"), ast.Number("0.1"), json.Number("1"), json.Number("2.50"), json.Number("1e2"),
}

// random makes values of all kinds.
func random(r *rand.Rand, depth int) any {
	kind := r.IntN(9)
	if depth == 0 || kind < 3 {
		return leaves[r.IntN(len(leaves))]
	}
	n := r.IntN(4)
	if r.IntN(6) == 0 {
		n = 12 // more than are searched one by one
	}
	elems := make([]any, n)
	for i := range elems {
		elems[i] = random(r, depth-1)
	}
	switch kind {
	case 3:
		return elems
	case 4:
		return &value.Array{Elems: elems}
	case 5:
		m := map[string]any{}
		for i, e := range elems {
			m[string(rune('a'+i))] = e
		}
		return m
	case 6:
		o := &value.Object{}
		for _, e := range elems {
			o.Put(e, random(r, depth-1))
		}
		return o
	case 7:
		var p *value.Path
		for _, e := range elems {
			p = p.Append(e)
		}
		return p
	}
	s := &value.Set{}
	for _, e := range elems {
		s.Add(e)
	}
	return s
}

// TestAgainstOPA compares everything that two values have in common with what
// OPA says of them.
func TestAgainstOPA(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	equal := 0
	for range 30_000 {
		a, b := random(r, 3), random(r, 3)
		if r.IntN(4) == 0 {
			b = value.FromAST(value.Term(a).Value) // the same in another form
		}
		x, y := value.Term(a), value.Term(b)
		want := sign(ast.Compare(x, y))
		if got := sign(value.Compare(a, b)); got != want {
			t.Fatalf("comparing %v and %v: got %d, want %d", x, y, got, want)
		}
		if got := value.Equal(a, b); got != (want == 0) {
			t.Fatalf("%v equals %v: got %v", x, y, got)
		}
		if want == 0 {
			equal++
			if value.Hash(a) != value.Hash(b) {
				t.Fatalf("%v and %v are equal and have two hashes", x, y)
			}
		}
		get(t, a, b, x, y)
	}
	if equal < 300 {
		t.Errorf("only %d pairs were equal: too few to test anything", equal)
	}
}

func sign(n int) int { return max(-1, min(1, n)) }

// get looks b up in a.
func get(t *testing.T, a, b any, x, y *ast.Term) {
	t.Helper()
	want := x.Get(y)
	got := value.Get(a, b)
	if (got == nil) != (want == nil) || got != nil && !value.Term(got).Equal(want) {
		t.Fatalf("%v[%v]: got %v, want %v", x, y, got, want)
	}
}

func TestJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		v := random(r, 3)
		want, err := ast.JSON(value.Term(v).Value)
		if err != nil {
			t.Fatal(err)
		}
		got, err := value.JSON(v)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%v (-want +got):\n%s", value.Term(v), diff)
		}
	}
}

// TestSorted: the order is OPA's however many elements were added in between.
func TestSorted(t *testing.T) {
	s := &value.Set{}
	var terms []*ast.Term
	for _, v := range leaves {
		if s.Add(v) {
			terms = append(terms, value.Term(v))
		}
		s.Sorted()
	}
	slices.SortFunc(terms, func(a, b *ast.Term) int { return ast.Compare(a, b) })
	for i, v := range s.Sorted() {
		if !value.Term(v).Equal(terms[i]) {
			t.Errorf("at %d: got %v, want %v", i, v, terms[i])
		}
	}
}

func TestCopy(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     any
		want   any
	}{
		"JSON":       {"is copied", map[string]any{"a": []any{"b", int64(1), 1.5, true}}, map[string]any{"a": []any{"b", int64(1), 1.5, true}}},
		"null":       {"becomes Null", nil, value.Null{}},
		"int":        {"Go programs write int", map[string]any{"a": 1}, map[string]any{"a": int64(1)}},
		"strings":    {"and lists of strings", []string{"a"}, []any{"a"}},
		"big number": {"keeps its text", json.Number("100000000000000000000"), ast.Number("100000000000000000000")},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := value.Copy(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
