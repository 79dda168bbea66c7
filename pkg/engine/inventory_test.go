package engine_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

func gvk(group, version, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: version, Kind: kind}
}

// TestRequires reads the annotation as templates write it.
func TestRequires(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, annotation string
		want               [][]schema.GroupVersionKind
		wantErr            string
	}{
		"quoted": {
			reason:     "this is how the library writes it",
			annotation: "\"[\n  [\n    {\"groups\": [\"\"], \"versions\": [\"v1\"], \"kinds\": [\"Service\"]}\n  ]\n]\"\n",
			want:       [][]schema.GroupVersionKind{{gvk("", "v1", "Service")}},
		},
		"plain": {
			reason:     "without quotes it is JSON as well",
			annotation: `[[{"groups":["a"],"versions":["v1"],"kinds":["A"]}],[{"groups":["b"],"versions":["v1"],"kinds":["B"]}]]`,
			want:       [][]schema.GroupVersionKind{{gvk("a", "v1", "A")}, {gvk("b", "v1", "B")}},
		},
		"alternatives": {
			reason:     "every combination can stand for the others, in the order in which they are written",
			annotation: `[[{"groups":["x"],"versions":["v1beta1"],"kinds":["I"]},{"groups":["n"],"versions":["v1beta1","v1"],"kinds":["I"]}]]`,
			want:       [][]schema.GroupVersionKind{{gvk("x", "v1beta1", "I"), gvk("n", "v1beta1", "I"), gvk("n", "v1", "I")}},
		},
		"empty list":      {reason: "nothing is needed", annotation: `"[]"`, want: [][]schema.GroupVersionKind{}},
		"empty":           {reason: "it says nothing", annotation: "", wantErr: "want a list of lists"},
		"no list":         {reason: "it is no list of lists", annotation: `{"groups":[]}`, wantErr: "want a list of lists"},
		"a wrong key":     {reason: "group is not a key", annotation: `[[{"group":["a"]}]]`, wantErr: "unknown field"},
		"an entry of air": {reason: "no kind can be meant", annotation: `[[{"groups":["a"],"versions":[],"kinds":["A"]}]]`, wantErr: "entry 0 names no kind"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			template := sourced("v0", "package p\nviolation[{\"msg\": \"a\"}] { data.inventory.cluster }")
			template.Annotations = map[string]string{engine.AnnotationRequires: tc.annotation}
			add(t, e, []*engine.Template{template})
			got := e.InventoryNeeds()
			if len(got) != 1 {
				t.Fatalf("got %d needs, want one", len(got))
			}
			wantError(t, tc.reason, got[0].Problem, tc.wantErr)
			if diff := cmp.Diff(tc.want, got[0].Requires); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestInventoryReads finds in a template's code what it reads.
func TestInventoryReads(t *testing.T) {
	for name, tc := range map[string]struct {
		rego string
		want []engine.InventoryRead
	}{
		"nothing":      {`violation[{"msg": "a"}] { input.inventory }`, nil},
		"in a comment": {"violation[{\"msg\": \"a\"}] { true } # data.inventory", nil},
		"of a namespace": {`violation[{"msg": x}] { data.inventory.namespace[_]["apps/v1"].Deployment[x] }`,
			[]engine.InventoryRead{{GroupVersion: "apps/v1", Kind: "Deployment"}}},
		"of the cluster": {`violation[{"msg": x}] { data.inventory.cluster.v1.Node[x] }`,
			[]engine.InventoryRead{{GroupVersion: "v1", Kind: "Node"}}},
		"any version": {`violation[{"msg": x}] { data.inventory.namespace[_][gv].Ingress[x]; startswith(gv, "networking.k8s.io/") }`,
			[]engine.InventoryRead{{Kind: "Ingress"}}},
		"anything": {`violation[{"msg": "a"}] { inv := data.inventory; inv.cluster }`, []engine.InventoryRead{{}}},
		"in a comprehension": {`violation[{"msg": "a"}] { count([x | data.inventory.cluster.v1.Node[x]]) > 1 }`,
			[]engine.InventoryRead{{GroupVersion: "v1", Kind: "Node"}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			add(t, e, []*engine.Template{sourced("v0", "package p\n"+tc.rego)})
			var got []engine.InventoryRead
			for _, n := range e.InventoryNeeds() {
				got = n.Reads
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAwaitInventory withholds a constraint until its data is complete.
func TestAwaitInventory(t *testing.T) {
	e := newEngine(t)
	e.AwaitInventory()
	template := sourced("v0", "package p\nviolation[{\"msg\": \"found\"}] { data.inventory.cluster.v1.Node.n }")
	add(t, e, []*engine.Template{template}, cts.MakeConstraint(t, "Probe", "c"))
	if err := e.AddData(t.Context(), []string{"cluster", "v1", "Node", "n"}, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	withheld := func(reason, want string) {
		t.Helper()
		got := e.Review(t.Context(), datum("", "x"))
		if len(got.Violations) > 0 || len(got.Faults) != 1 || got.Faults[0].Cause != policy.CauseInventory || !strings.Contains(got.Faults[0].Err.Error(), want) {
			t.Errorf("%s: got %+v, want it withheld because of %q", reason, got, want)
		}
		if d := policy.Decide(got); !d.Allowed || d.Err != nil || len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], want) {
			t.Errorf("%s: got decision %+v, want it allowed with a warning", reason, d)
		}
		if scopes := e.AuditScopes(); scopes[0].Withheld == nil {
			t.Errorf("%s: audit is not told", reason)
		}
	}
	withheld("at first", "not known yet")
	need := e.InventoryNeeds()[0]
	e.SetInventory(need, errors.New("no right"))
	withheld("data that cannot be read", "no right")
	if !e.SetInventory(need, nil) || e.SetInventory(need, nil) {
		t.Error("a change and none are not told apart")
	}
	wantMessages(t, "complete data", e, datum("", "x"), "deny [c] found")
	add(t, e, []*engine.Template{template})
	wantMessages(t, "the same template again", e, datum("", "x"), "deny [c] found")
	template.Annotations = map[string]string{engine.AnnotationRequires: `[[{"groups":[""],"versions":["v1"],"kinds":["Pod"]}]]`}
	add(t, e, []*engine.Template{template})
	withheld("a template that needs more", "not known yet")
	if e.SetInventory(need, nil) {
		t.Error("what is said of an older version of a template counts")
	}
	withheld("an answer to an older question", "not known yet")
}

// TestDataChanged tells audit of data that a template reads, and of no other.
func TestDataChanged(t *testing.T) {
	e := newEngine(t)
	add(t, e, []*engine.Template{sourced("v0", "package p\nviolation[{\"msg\": x}] { data.inventory.cluster.v1.Node[x] }")}, cts.MakeConstraint(t, "Probe", "c"))
	before := e.AuditScopes()[0]
	e.DataChanged([]schema.GroupVersionKind{gvk("", "v1", "Pod"), gvk("apps", "v1", "Node")})
	if got := e.AuditScopes()[0]; got.Data != before.Data {
		t.Error("a change of kinds that are not read is told")
	}
	changed := e.Changed()
	e.DataChanged([]schema.GroupVersionKind{gvk("", "v1", "Node")})
	if got := e.AuditScopes()[0]; got.Data == before.Data || got.Revision != before.Revision {
		t.Errorf("got data %d and revision %d after %d and %d, want another and the same", got.Data, got.Revision, before.Data, before.Revision)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody is woken")
	}
}
