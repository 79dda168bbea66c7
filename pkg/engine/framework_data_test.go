package engine_test

import (
	"testing"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"

	"github.com/fusegate/fusegate/pkg/engine"
)

// showing is an engine that reports its inventory, if it has one.
func showing(t *testing.T) *engine.Engine {
	t.Helper()
	e := newEngine(t)
	add(t, e, []*engine.Template{sourced("v0", `package p
violation[{"msg": msg}] { msg := sprintf("%v", [data.inventory]) }`)}, cts.MakeConstraint(t, "Probe", "c"))
	return e
}

type path = []string

func wantInventory(t *testing.T, e *engine.Engine, want string) {
	t.Helper()
	var lines []string
	if want != "" {
		lines = []string{"deny [c] " + want}
	}
	wantMessages(t, "inventory", e, datum("", "bar"), lines...)
}

func TestFrameworkAddData(t *testing.T) {
	text := func(v string) map[string]any { return map[string]any{"foo": v} }
	for name, tc := range map[string]struct {
		reason     string
		beforePath path
		before     any
		path       path
		value      any
		wantErr    bool
		want       string
	}{
		"root":            {"the whole inventory", nil, nil, nil, map[string]any{}, false, "{}"},
		"root over":       {"the whole inventory, once more", path{"foo"}, text("bar"), nil, text("qux"), false, `{"foo": "qux"}`},
		"new":             {"a new object", nil, nil, path{"foo"}, text("bar"), false, `{"foo": {"foo": "bar"}}`},
		"beside":          {"another object", path{"foo"}, text("bar"), path{"qux"}, "v", false, `{"foo": {"foo": "bar"}, "qux": "v"}`},
		"deep":            {"the path is made", nil, nil, path{"key", "is", "really", "deep"}, "v", false, `{"key": {"is": {"really": {"deep": "v"}}}}`},
		"over":            {"an object is replaced", path{"foo"}, text("bar"), path{"foo"}, text("qux"), false, `{"foo": {"foo": "qux"}}`},
		"text over":       {"whatever it is", path{"key"}, "my_value", path{"key"}, "new_value", false, `{"key": "new_value"}`},
		"below an object": {"an object grows", path{"foo"}, text("bar"), path{"foo", "bar"}, text("qux"), false, `{"foo": {"bar": {"foo": "qux"}, "foo": "bar"}}`},
		"above an object": {"an object is replaced with what is in it", path{"foo", "bar"}, text("bar"), path{"foo"}, text("qux"), false, `{"foo": {"foo": "qux"}}`},
		"below a list":    {"nor has a list, by name", path{"foo"}, []any{"bar"}, path{"foo", "bar"}, text("qux"), true, `{"foo": ["bar"]}`},
		"below a text":    {"a text has nothing below it, and stays", path{"foo"}, "bar", path{"foo", "bar"}, text("qux"), true, `{"foo": "bar"}`},
	} {
		t.Run(name, func(t *testing.T) {
			e := showing(t)
			if tc.before != nil {
				if err := e.AddData(t.Context(), tc.beforePath, tc.before); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.AddData(t.Context(), tc.path, tc.value); (err != nil) != tc.wantErr {
				t.Errorf("%s: got error %v", tc.reason, err)
			}
			wantInventory(t, e, tc.want)
		})
	}
}

func TestFrameworkRemoveData(t *testing.T) {
	for name, tc := range map[string]struct {
		path path
		want string
	}{
		"root":          {nil, ""},
		"it":            {path{"foo", "bar"}, `{"foo": {}}`},
		"what holds it": {path{"foo"}, `{}`},
		"another":       {path{"qux"}, `{"foo": {"bar": "v"}}`},
		"below nothing": {path{"qux", "a", "b"}, `{"foo": {"bar": "v"}}`},
		"below a text":  {path{"foo", "bar", "b"}, `{"foo": {"bar": "v"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			e := showing(t)
			if err := e.AddData(t.Context(), path{"foo", "bar"}, "v"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := e.RemoveData(t.Context(), tc.path); err != nil {
					t.Fatalf("removing %v: %v", tc.path, err)
				}
				wantInventory(t, e, tc.want)
			}
			if err := e.AddData(t.Context(), path{"foo", "bar"}, "v"); err != nil {
				t.Errorf("adding again: %v", err)
			}
		})
	}
}

// TestFrameworkWithoutInventory: templates work before there is an inventory,
// and after it has gone.
func TestFrameworkWithoutInventory(t *testing.T) {
	e := denying(t)
	add(t, e, []*engine.Template{sourced("v0", `package p
violation[{"msg": "equal"}] { data.inventory = "something_else" }`)}, cts.MakeConstraint(t, "Probe", "c"))
	wantMessages(t, "before", e, datum("", "bar"), "deny [constraint] denied")
	if err := e.RemoveData(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantMessages(t, "after removal", e, datum("", "bar"), "deny [constraint] denied")
	if err := e.AddData(t.Context(), nil, "something_else"); err != nil {
		t.Fatal(err)
	}
	wantMessages(t, "with a text", e, datum("", "bar"), "deny [constraint] denied", "deny [c] equal")
}
