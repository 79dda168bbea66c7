package tree_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/fusegate/fusegate/pkg/rego/tree"
)

// TestMapAgainstGo does the same to a Map and to a Go map.
func TestMapAgainstGo(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m, want := &tree.Map{}, map[string]any{}
	for i := range 20_000 {
		key := fmt.Sprint(r.IntN(3000))
		old, before := m, m.Len()
		if r.IntN(3) == 0 {
			m = m.Without(key)
			delete(want, key)
		} else {
			m = m.With(key, int64(i))
			want[key] = int64(i)
		}
		if old.Len() != before {
			t.Fatal("a version changed")
		}
		if m.Len() != len(want) {
			t.Fatalf("got %d keys, want %d", m.Len(), len(want))
		}
	}
	if diff := cmp.Diff(want, content(m)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for key := range want {
		if v, found := m.Get(key); !found || v != want[key] {
			t.Errorf("key %s: got %v, want %v", key, v, want[key])
		}
		m = m.Without(key)
	}
	if m.Len() != 0 || len(content(m)) != 0 {
		t.Errorf("%d keys are left", m.Len())
	}
}

func content(m *tree.Map) map[string]any {
	out := map[string]any{}
	m.Range(func(k string, v any) bool { out[k] = v; return true })
	return out
}

// TestVersions: a version never changes, whatever comes after it.
func TestVersions(t *testing.T) {
	tr := tree.New()
	put(t, tr, "v1", "cluster", "Node", "a")
	first := tr.Root()
	put(t, tr, "v2", "cluster", "Node", "a")
	put(t, tr, "v2", "cluster", "Node", "b")
	tr.Remove([]string{"cluster", "Node", "a"})
	tr.Remove([]string{"cluster", "Node", "nothing"})
	tr.Remove([]string{"no", "such", "path"})
	if got := first.Term().String(); got != `{"cluster": {"Node": {"a": "v1"}}}` {
		t.Errorf("the first version is now %s", got)
	}
	if got := tr.Root().Term().String(); got != `{"cluster": {"Node": {"b": "v2"}}}` {
		t.Errorf("got %s", got)
	}
	if got := first.Term().String(); got != `{"cluster": {"Node": {"a": "v1"}}}` {
		t.Errorf("the first version is now %s", got)
	}
}

func put(t *testing.T, tr *tree.Tree, doc any, path ...string) {
	t.Helper()
	if err := tr.Put(path, doc); err != nil {
		t.Fatal(err)
	}
}

func TestPutBelowDocuments(t *testing.T) {
	tr := tree.New()
	put(t, tr, map[string]any{"b": map[string]any{"c": int64(1)}}, "a")
	put(t, tr, int64(2), "a", "b", "d")
	if got := tr.Root().Term().String(); got != `{"a": {"b": {"c": 1, "d": 2}}}` {
		t.Errorf("got %s", got)
	}
	if err := tr.Put([]string{"a", "b", "c", "e"}, "x"); err == nil {
		t.Error("a document was stored below a number")
	}
	if err := tr.Put(nil, "x"); err == nil {
		t.Error("a document was stored nowhere")
	}
}

func TestView(t *testing.T) {
	tr := tree.New()
	put(t, tr, map[string]any{"list": []any{"x", nil}, "n": nil}, "a", "b")
	view := tree.NewView(tr.Root())
	for path, want := range map[string]string{
		"/": `{"a": {"b": {"list": ["x", null], "n": null}}}`, "/a": `{"b": {"list": ["x", null], "n": null}}`,
		"/a/b/list": `["x", null]`, "/a/b/list/0": `"x"`, "/a/b/n": "null", "/a/b/list/2": "", "/a/b/list/x": "", "/x": "", "/a/b/n/x": "",
	} {
		got, err := view.Read(t.Context(), nil, storage.MustParsePath(path))
		if want == "" {
			if !storage.IsNotFound(err) {
				t.Errorf("%s: got %v, %v, want nothing there", path, got, err)
			}
			continue
		}
		if err != nil || got.(ast.Value).String() != want {
			t.Errorf("%s: got %v, %v, want %s", path, got, err, want)
		}
	}
}

// TestApply replaces objects at several places at once, or nowhere.
func TestApply(t *testing.T) {
	tr := tree.New()
	put(t, tr, "v", "ns", "a", "Pod", "x")
	put(t, tr, int64(1), "number")
	apply := func(edits ...tree.Edit) error { return tr.Apply(edits) }
	objects := func(names ...string) map[string]any {
		out := map[string]any{}
		for _, n := range names {
			out[n] = "w"
		}
		return out
	}
	if err := apply(tree.Edit{Path: []string{"ns", "a", "Pod"}, Objects: objects("y")}, tree.Edit{Path: []string{"ns", "b", "Pod"}, Objects: objects("z")}); err != nil {
		t.Fatal(err)
	}
	if got := tr.Root().Term().String(); got != `{"ns": {"a": {"Pod": {"y": "w"}}, "b": {"Pod": {"z": "w"}}}, "number": 1}` {
		t.Errorf("got %s", got)
	}
	for reason, path := range map[string][]string{"no path": nil, "below a number": {"number", "x"}} {
		if err := apply(tree.Edit{Path: []string{"ns", "a"}}, tree.Edit{Path: path, Objects: objects("y")}); err == nil {
			t.Errorf("%s: got no error", reason)
		}
	}
	if err := apply(tree.Edit{Path: []string{"ns", "a", "Pod"}}, tree.Edit{Path: []string{"ns", "c", "Pod"}}); err != nil {
		t.Fatal(err)
	}
	if got := tr.Root().Term().String(); got != `{"ns": {"b": {"Pod": {"z": "w"}}}, "number": 1}` {
		t.Errorf("after what was there is removed, and what was not: got %s", got)
	}
	if v, found := tr.Get([]string{"ns", "b", "Pod", "z"}); !found || v != "w" {
		t.Errorf("got %v, %v", v, found)
	}
	for _, path := range [][]string{{"ns", "a"}, {"number", "x"}, {"ns", "b", "Pod", "z", "z"}} {
		if v, found := tr.Get(path); found {
			t.Errorf("at %v: got %v, want nothing", path, v)
		}
	}
}
