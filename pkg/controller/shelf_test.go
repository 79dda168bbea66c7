package controller

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// shelved is a constraint as an API server sends it.
func shelved(name, version string) *unstructured.Unstructured {
	u := constraint("Shelved", name, version)
	u.SetResourceVersion(version)
	u.SetAnnotations(map[string]string{"kept": "a", lastApplied: "{}"})
	metadata, _ := u.Object["metadata"].(map[string]any)
	metadata["managedFields"] = []any{map[string]any{"manager": "m"}}
	u.Object["status"] = map[string]any{"count": int64(7), "share": 0.5}
	return u
}

// stripped is what is held of it.
func stripped(name, version string) map[string]any {
	u := shelved(name, version)
	u.SetAnnotations(map[string]string{"kept": "a"})
	unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
	return u.Object
}

// holding returns Constraints that hold what shelf does.
func holding(kind string, s *shelf) *Constraints {
	return &Constraints{shelves: map[string]*shelf{kind: s}}
}

// TestShelf takes a shelf through what a reflector does to it.
func TestShelf(t *testing.T) {
	for _, packed := range []bool{false, true} {
		t.Run(fmt.Sprintf("packed=%t", packed), func(t *testing.T) {
			var told []string
			s := newShelf(packed, func(name string) { told = append(told, name) }, func() {})
			c := holding("Shelved", s)
			check := func(step string, err error, wantTold []string, want map[string]string) {
				t.Helper()
				slices.Sort(told)
				if err != nil || !slices.Equal(told, wantTold) {
					t.Errorf("%s: told of %q (%v), want %q", step, told, err, wantTold)
				}
				told = nil
				if names := c.names("Shelved"); len(names) != len(want) {
					t.Errorf("%s: holds %q, want %v", step, names, want)
				}
				for name, version := range want {
					u, err := c.Get("Shelved", name)
					if err != nil {
						t.Fatalf("%s: %v", step, err)
					}
					if diff := cmp.Diff(stripped(name, version), u.Object); diff != "" {
						t.Errorf("%s: %s, -want +got:\n%s", step, name, diff)
					}
				}
			}
			if c.synced("Shelved") {
				t.Error("synced before anything was listed")
			}
			streamed, err := s.Transformer()(shelved("a", "1"))
			if err != nil {
				t.Fatal(err)
			}
			check("list", s.Replace([]any{streamed, shelved("b", "2")}, "2"), []string{"a", "b"}, map[string]string{"a": "1", "b": "2"})
			if !c.synced("Shelved") {
				t.Error("not synced after the list")
			}
			check("change", s.Update(shelved("a", "3")), []string{"a"}, map[string]string{"a": "3", "b": "2"})
			check("addition", s.Add(shelved("c", "4")), []string{"c"}, map[string]string{"a": "3", "b": "2", "c": "4"})
			check("deletion", s.Delete(shelved("b", "5")), []string{"b"}, map[string]string{"a": "3", "c": "4"})
			check("another list", s.Replace([]any{shelved("c", "6")}, "6"), []string{"a", "c"}, map[string]string{"c": "6"})
			check("empty list", s.Replace(nil, "7"), []string{"c"}, nil)
			if !c.synced("Shelved") {
				t.Error("not synced although it is known that there are none")
			}
		})
	}
}

// TestReadsHeld reads constraints by the interface of a client.
func TestReadsHeld(t *testing.T) {
	s := newShelf(false, func(string) {}, func() {})
	if err := s.Replace([]any{shelved("a", "1")}, "1"); err != nil {
		t.Fatal(err)
	}
	held, err := s.known["a"].read()
	if err != nil {
		t.Fatal(err)
	}
	c := holding("Shelved", s).Client(nil)
	for name, tc := range map[string]struct {
		reason string
		opts   []client.GetOption
		list   []client.ListOption
		shared bool
	}{
		"Copy":   {reason: "who reads may modify it"},
		"Shared": {reason: "who asks for no copy gets none", opts: []client.GetOption{client.UnsafeDisableDeepCopy}, list: []client.ListOption{client.UnsafeDisableDeepCopy}, shared: true},
	} {
		t.Run(name, func(t *testing.T) {
			one, list := newObject(constraintGVK("Shelved")), &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(constraintGVK("ShelvedList"))
			if err := c.Get(t.Context(), client.ObjectKey{Name: "a"}, one, tc.opts...); err != nil {
				t.Fatal(err)
			}
			if err := c.List(t.Context(), list, tc.list...); err != nil || len(list.Items) != 1 {
				t.Fatalf("got %d constraints, %v", len(list.Items), err)
			}
			if diff := cmp.Diff(stripped("a", "1"), one.Object) + cmp.Diff(stripped("a", "1"), list.Items[0].Object); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			one.Object["one"], list.Items[0].Object["list"] = true, true
			if shared := held.Object["one"] != nil && held.Object["list"] != nil; shared != tc.shared {
				t.Errorf("shared: %t, want %t: %s", shared, tc.shared, tc.reason)
			}
			delete(held.Object, "one")
			delete(held.Object, "list")
		})
	}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "b"}, newObject(constraintGVK("Shelved"))); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("got %v for a constraint that is not there, want NotFound", err)
	}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "a"}, newObject(constraintGVK("Other"))); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("got %v for a kind that is not followed, want NotFound", err)
	}
}

func TestTrim(t *testing.T) {
	whole := func() *unstructured.Unstructured {
		u := template("Trimmed", "word", "string")
		u.SetAnnotations(map[string]string{"kept": "a", lastApplied: "{}"})
		return u
	}
	want := whole()
	want.SetAnnotations(map[string]string{"kept": "a"})
	for _, pack := range []bool{false, true} {
		u := whole()
		for range 2 { // the cache may do it again
			if err := Trim(u, pack); err != nil {
				t.Fatal(err)
			}
		}
		if _, packed := u.Object["spec"].(string); packed != pack {
			t.Errorf("packed: %t, want %t", packed, pack)
		}
		if err := unpack(u); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, u); diff != "" {
			t.Errorf("pack=%t, -want +got:\n%s", pack, diff)
		}
	}
	other := constraint("Trimmed", "one", "1")
	if err := Trim(other, true); err != nil || !cmp.Equal(other, constraint("Trimmed", "one", "1")) {
		t.Errorf("what is no template became %v, %v", other, err)
	}
}
