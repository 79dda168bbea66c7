package rego_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/storage"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// exploding are policies that one object makes take more than is granted.
var exploding = map[string]struct {
	source source
	text   string
}{
	"steps": {
		v0(`n := numbers.range(1, 100000); count([1 | x := n[_]; y := n[_]; x + y < 0]) == 1; msg := "m"`), "steps",
	},
	"memory of arrays": {
		v0(`n := numbers.range(1, 3000); a := [x | x := n[_]; n[_]]; count(a) == 1; msg := "m"`), "MiB",
	},
	"memory of sets": {
		v0(`n := numbers.range(1, 3000); a := {x | y := n[_]; z := n[_]; x := (y * 3000) + z}; count(a) == 1; msg := "m"`), "MiB",
	},
	"a range":  {v0(`count(numbers.range(1, 1000000000)) == 1; msg := "m"`), "MiB"},
	"doubling": {source{rego: "package k\nx0 := input.review.object.text\n" + doubling(40) + "violation[{\"msg\": x40}] { true }"}, "MiB"},
}

// doubling are rules of which each holds twice the text of the one before.
func doubling(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "x%d := concat(\"\", [x%d, x%d])\n", i+1, i, i)
	}
	return out.String()
}

// TestLimits: what an object makes explode is a fault that the object brought
// about, and says so. It does not go to the interpreter, which has no limits.
func TestLimits(t *testing.T) {
	for name, tc := range exploding {
		t.Run(name, func(t *testing.T) {
			d, c := newDriver(t, tc.source, nil)
			got := query(t.Context(), d, review(map[string]any{"text": strings.Repeat("t", 1000), "size": strings.Repeat("s", rego.SmallObject)}), c)
			if len(got.faults) != 1 || got.evaluated != 0 {
				t.Fatalf("got %+v, want one fault", got)
			}
			f := got.faults[0]
			if f.Cause != policy.CauseInput || !strings.Contains(f.Err.Error(), tc.text) || !strings.Contains(f.Err.Error(), "limit") {
				t.Errorf("got %s: %v, want an input's fault that tells of %s", f.Cause, f.Err, tc.text)
			}
		})
	}
}

// TestInterpreted: what the planner refuses runs all the same, and shows.
func TestInterpreted(t *testing.T) {
	refusedByPlanner := source{version: "v1", rego: `package k
p[x].a := 1 if { some x in ["u", "v"] }
p[x].b := n if { some x in ["u"]; n := p.v.a }
violation contains {"msg": sprintf("%v", [p.u])}`}
	d, c := newDriver(t, refusedByPlanner, nil)
	if d.programs["K"].Refused() == nil {
		t.Fatalf("nothing is interpreted: the test tests nothing")
	}
	got := query(t.Context(), d, review(nil), c)
	t.Log(d.programs["K"].Refused(), got.findings, got.faults)
	if len(got.findings) != 1 && len(got.faults) != 1 {
		t.Errorf("got %+v, want a verdict or a fault of the interpreter", got)
	}
	if err := d.AddTemplate(t.Context(), template("K", v0(`msg := "m"`))); err != nil {
		t.Fatal(err)
	}
	if left := d.programs["K"].Refused(); left != nil {
		t.Errorf("still interpreted: %v", left)
	}
}

// TestReferenceInterprets: a driver for comparison compiles nothing.
func TestReferenceInterprets(t *testing.T) {
	d := drive(rego.NewReference())
	if err := d.AddTemplate(t.Context(), template("K", v0(`msg := "m"`))); err != nil {
		t.Fatal(err)
	}
	if d.programs["K"].Refused() == nil {
		t.Error("the template is compiled")
	}
}

// load puts n ConfigMaps into the inventory.
func load(t testing.TB, d *driver, n int) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("cm-%d", i)
		path := storage.Path{"namespace", "ns", "v1", "ConfigMap", name}
		object := map[string]any{"metadata": map[string]any{"name": name}, "data": map[string]any{"k": "v"}}
		if err := d.AddData(t.Context(), target, path, object); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInventoryCostsNothing: a policy that looks up by key takes no more time
// and memory with 100,000 objects than with 100.
func TestInventoryCostsNothing(t *testing.T) {
	byKey := v0(`data.inventory.namespace.ns.v1.ConfigMap[input.review.object.name].data.k == "v"; msg := "m"`)
	measure := func(n int) (allocations float64, best time.Duration) {
		d, c := newDriver(t, byKey, nil)
		load(t, d, n)
		r := review(map[string]any{"name": "cm-7"})
		best = time.Hour
		for range 50 {
			start := time.Now()
			if got := query(t.Context(), d, r, c); len(got.findings) != 1 {
				t.Fatalf("got %+v, want one finding", got)
			}
			best = min(best, time.Since(start))
		}
		return testing.AllocsPerRun(20, func() { query(t.Context(), d, r, c) }), best
	}
	few, fast := measure(100)
	many, slow := measure(100_000)
	t.Logf("100 objects: %v allocations, %s; 100,000: %v, %s", few, fast, many, slow)
	if many > few {
		t.Errorf("%v allocations with 100,000 objects, %v with 100", many, few)
	}
	if slow > 10*fast+time.Millisecond {
		t.Errorf("%s with 100,000 objects, %s with 100", slow, fast)
	}
}

// TestInventoryOfInterpreted: the interpreter sees what the compiled evaluator
// sees, as changes come and go.
func TestInventoryOfInterpreted(t *testing.T) {
	all := v0(`names := [n | data.inventory.namespace[_].v1.ConfigMap[n]]; msg := concat(",", sort(names))`)
	compiled, c := newDriver(t, all, nil)
	reference := drive(rego.NewReference())
	prepareReference(t, reference, all, c)
	for _, d := range []*driver{compiled, reference} {
		load(t, d, 40)
		for i := range 37 {
			path := storage.Path{"namespace", "ns", "v1", "ConfigMap", fmt.Sprintf("cm-%d", i)}
			d.RemoveData(path)
		}
		got := query(t.Context(), d, review(nil), c)
		if len(got.findings) != 1 || got.findings[0].Msg != "cm-37,cm-38,cm-39" {
			t.Errorf("got %+v, want the three that are left", got)
		}
	}
}

func prepareReference(t *testing.T, d *driver, s source, c *unstructured.Unstructured) {
	t.Helper()
	if err := d.AddTemplate(t.Context(), template("K", s)); err != nil {
		t.Fatal(err)
	}
	if err := d.AddConstraint(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// TestCompiledIsConcurrent runs one program many times at once, on objects that
// reach its constants, sets and memo. The race detector does the checking.
func TestCompiledIsConcurrent(t *testing.T) {
	s := source{version: "v1", rego: `package k
odd := {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", {"k"}, ["l", {"m": {"n"}}]}
f(x) := count(x)
violation contains {"msg": sprintf("%v %v %v", [sort(odd), f(input.review.object.l), {x | some x in odd; not x in {"a", {"k"}}}])}`}
	d, c := newDriver(t, s, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			list := make([]any, i)
			for range 50 {
				got := query(context.Background(), d, review(map[string]any{"l": list}), c)
				if len(got.findings) != 1 || !strings.Contains(got.findings[0].Msg, fmt.Sprintf("] %d {", i)) {
					t.Errorf("got %+v", got)
				}
			}
		})
	}
	wg.Wait()
}
