package engine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	"github.com/open-policy-agent/frameworks/constraint/pkg/handler/handlertest"
	"github.com/open-policy-agent/frameworks/constraint/pkg/instrumentation"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/rego"
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

// TestFrameworkClientData: what the framework's client adds reaches the driver.
func TestFrameworkClientData(t *testing.T) {
	c := theirClient(t, "audit")
	if _, err := c.AddTemplate(t.Context(), clienttest.TemplateForbidDuplicates()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddConstraint(t.Context(), cts.MakeConstraint(t, clienttest.KindForbidDuplicates, "constraint")); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		t.Helper()
		responses, err := c.Review(t.Context(), rego.NewInput(datum("", "bar")))
		if err != nil {
			t.Fatal(err)
		}
		return len(responses.Results())
	}
	object := &handlertest.Object{Name: "foo-1", Data: "bar"}
	if _, err := c.AddData(t.Context(), object); err != nil || count() != 1 {
		t.Errorf("after adding: got %d results, %v", count(), err)
	}
	if _, err := c.RemoveData(t.Context(), object); err != nil || count() != 0 {
		t.Errorf("after removing: got %d results, %v", count(), err)
	}
}

// TestFrameworkNoTraceNoStats: asking for traces and statistics changes nothing
// and brings none: what Fusegate measures, it measures outside the framework.
func TestFrameworkNoTraceNoStats(t *testing.T) {
	c := theirClient(t, "audit")
	if _, err := c.AddTemplate(t.Context(), clienttest.TemplateDenyPrint()); err != nil {
		t.Fatal(err)
	}
	scoped := cts.MakeScopedEnforcementConstraint(t, clienttest.KindDenyPrint, "constraint", "scoped", []string{"warn"}, "audit")
	if _, err := c.AddConstraint(t.Context(), scoped); err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{false, true} {
		got, err := c.Review(t.Context(), rego.NewInput(datum("", "bar")), reviews.Tracing(on), reviews.Stats(on), reviews.EnforcementPoint("audit"))
		if err != nil {
			t.Fatal(err)
		}
		results := got.Results()
		if len(results) != 1 || results[0].Msg != "denied" || results[0].EnforcementAction != "scoped" || results[0].Target != handlertest.TargetName {
			t.Fatalf("got %+v, want one result", results)
		}
		if diff := cmp.Diff([]string{"warn"}, results[0].ScopedEnforcementActions); diff != "" {
			t.Errorf("scoped actions (-want +got):\n%s", diff)
		}
		if got.ByTarget[handlertest.TargetName].Trace != nil || len(got.StatsEntries) != 0 {
			t.Errorf("got a trace or statistics: %s, %v", got.TraceDump(), got.StatsEntries)
		}
	}
	for _, stat := range []string{"templateRunTimeNS", "this_stat_does_not_exist"} {
		if got := c.GetDescriptionForStat(instrumentation.RegoSource, stat); got != instrumentation.UnknownDescription {
			t.Errorf("got description %q of %s, which the driver does not measure", got, stat)
		}
	}
}
