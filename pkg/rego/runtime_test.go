package rego_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/storage"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/rego"
)

func wide(n int) map[string]any {
	o := make(map[string]any, n)
	for i := range n {
		o[fmt.Sprintf("key-%d", i)] = []any{int64(i), "text", map[string]any{"a": true}}
	}
	return o
}

// many returns a driver with n templates and a constraint of each.
func many(t *testing.T, n int, s source, parameters any) (*driver, []*unstructured.Unstructured) {
	t.Helper()
	d := drive(rego.New())
	var cs []*unstructured.Unstructured
	for i := range n {
		kind := fmt.Sprintf("K%d", i)
		if err := d.AddTemplate(t.Context(), template(kind, s)); err != nil {
			t.Fatal(err)
		}
		c := constraint(kind, "c", parameters)
		if err := d.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	return d, cs
}

// allocations counts those of one review.
func allocations(t *testing.T, d *driver, object map[string]any, cs []*unstructured.Unstructured) float64 {
	t.Helper()
	return testing.AllocsPerRun(10, func() { query(t.Context(), d, review(object), cs...) })
}

// TestReviewIsNotConverted: what a review costs does not depend on how big the
// object is that compiled templates read.
func TestReviewIsNotConverted(t *testing.T) {
	read := v0(`input.review.object["key-1"][0] == 2; msg := "m"`)
	small, big := wide(2), wide(5000)
	d, cs := many(t, 20, read, nil)
	if got, want := allocations(t, d, big, cs), allocations(t, d, small, cs); got > want {
		t.Errorf("a big object takes %v allocations, a small one %v", got, want)
	}
}

// TestReviewIsConvertedOnce: where templates are interpreted, the object is
// converted once for all of them.
func TestReviewIsConvertedOnce(t *testing.T) {
	read := source{rego: "package k\nbad = x { x := [1, 2][_] }\nviolation[{\"msg\": \"m\"}] { not bad; input.review.object.x }"}
	small, big := wide(2), wide(5000)
	conversion := func(n int) float64 {
		d, cs := many(t, n, read, nil)
		return allocations(t, d, big, cs) - allocations(t, d, small, cs)
	}
	one, twenty := conversion(1), conversion(20)
	if one < 5000 {
		t.Fatalf("converting 5000 keys took %v allocations: the test measures nothing", one)
	}
	if twenty > one*1.1 {
		t.Errorf("converting took %v allocations for one template and %v for twenty", one, twenty)
	}
}

// TestTemplateAndParametersArePreparedOnce: a review costs the same however
// long the template and however many the parameters.
func TestTemplateAndParametersArePreparedOnce(t *testing.T) {
	plain := v0(`input.review.object.a == 1; msg := "m"`)
	long := plain
	for i := range 300 {
		long.rego += fmt.Sprintf("helper_%d(x) = y { y := x + %d }\n", i, i)
	}
	measure := func(s source, parameters any) float64 {
		d, cs := many(t, 1, s, parameters)
		return allocations(t, d, wide(2), cs)
	}
	base := measure(plain, nil)
	if base > 200 {
		t.Errorf("a trivial review takes %v allocations: is something parsed in it?", base)
	}
	if got := measure(long, nil); got > base*1.1 {
		t.Errorf("got %v allocations with a long template, %v with a short one", got, base)
	}
	if got := measure(plain, wide(5000)); got > base*1.1 {
		t.Errorf("got %v allocations with many parameters, %v with none", got, base)
	}
}

// TestConcurrentUse changes everything while reviews run. The race detector
// does most of the checking.
func TestConcurrentUse(t *testing.T) {
	params := map[string]any{"labels": []any{"a", "b", map[string]any{"c": int64(1)}}}
	d, stable := newDriver(t, v0(`input.parameters.labels[_] == "b"; {x | x := input.parameters.labels[_]}; data.inventory.cluster; msg := "m"`), params)
	if err := d.AddData(t.Context(), target, storage.Path{"cluster", "v1", "Node", "first"}, wide(3)); err != nil {
		t.Fatal(err)
	}
	if err := d.AddTemplate(t.Context(), template("P", v0(`msg := "0"`))); err != nil {
		t.Fatal(err)
	}
	passing := constraint("P", "p", params)
	if err := d.AddConstraint(t.Context(), passing); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var changers, readers sync.WaitGroup
	change := func(f func(i int) error) {
		changers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := f(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	change(func(i int) error {
		return d.AddTemplate(t.Context(), template("P", v0(fmt.Sprintf(`msg := "%d"`, i))))
	})
	change(func(int) error { return d.AddConstraint(t.Context(), passing) })
	change(func(int) error { return d.AddConstraint(t.Context(), stable) })
	change(func(i int) error {
		return d.AddData(t.Context(), target, storage.Path{"cluster", "v1", "Node", fmt.Sprint(i % 7)}, wide(3))
	})
	change(func(i int) error {
		d.RemoveData(storage.Path{"cluster", "v1", "Node", fmt.Sprint(i % 7)})
		return nil
	})
	for range 4 {
		readers.Go(func() {
			for range 200 {
				got := query(t.Context(), d, review(wide(5)), stable, passing)
				if len(got.findings) != 2 || got.findings[0].Msg != "m" {
					t.Errorf("got %+v, want the violations of both constraints", got)
					return
				}
			}
		})
	}
	readers.Wait()
	cancel()
	changers.Wait()
}

func TestInventory(t *testing.T) {
	show := v0(`msg := sprintf("%v", [data.inventory.cluster.v1.Node[_].n])`)
	d, c := newDriver(t, show, nil)
	node := func(name string) storage.Path { return storage.Path{"cluster", "v1", "Node", name} }
	steps := []struct {
		reason string
		do     func() error
		want   []finding
	}{
		{"nothing is there at first", func() error { return nil }, nil},
		{"integers stay integers", func() error {
			return d.AddData(t.Context(), target, node("a"), map[string]any{"n": int64(9007199254740993)})
		}, []finding{{"9007199254740993", none()}}},
		{"what is there is replaced", func() error {
			return d.AddData(t.Context(), target, node("a"), map[string]any{"n": int64(1)})
		}, []finding{{"1", none()}}},
		{"another beside it", func() error {
			return d.AddData(t.Context(), target, node("b"), map[string]any{"n": int64(2)})
		}, []finding{{"1", none()}, {"2", none()}}},
		{"one goes", func() error { d.RemoveData(node("a")); return nil }, []finding{{"2", none()}}},
		{"it may go twice", func() error { d.RemoveData(node("a")); return nil }, []finding{{"2", none()}}},
		{"what never was may go", func() error {
			d.RemoveData(storage.Path{"namespace", "x", "v1", "Pod"})
			return nil
		}, []finding{{"2", none()}}},
		{"all of it may go", func() error { d.RemoveData(nil); return nil }, nil},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.reason, err)
		}
		if diff := cmp.Diff(s.want, query(t.Context(), d, review(nil), c).findings); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.reason, diff)
		}
	}
}
