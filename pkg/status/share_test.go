package status_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/manifests"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/test/controlplane"
)

// schemas are what CRDs may say of status, and how much of it stays.
var schemas = map[string]struct {
	reason, schema string
	want           []string // types of conditions
	wantPods       []string
}{
	"Map": {
		reason: "as Fusegate's CRDs have it",
		schema: `{type: object, x-kubernetes-preserve-unknown-fields: true, properties: {
			conditions: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [type],
				items: {type: object, required: [type], x-kubernetes-preserve-unknown-fields: true, properties: {type: {type: string}}}},
			byPod: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [id],
				items: {type: object, required: [id], x-kubernetes-preserve-unknown-fields: true, properties: {id: {type: string}}}}}}`,
		want: []string{"One", "Two"}, wantPods: []string{"a", "b"},
	},
	"Untyped": {
		reason: "as constraints of Gatekeeper's have it: an apply replaces both lists",
		schema: `{type: object, x-kubernetes-preserve-unknown-fields: true}`,
		want:   []string{"One", "Two"}, wantPods: []string{"a", "b"},
	},
	"GatekeeperTemplate": {
		reason: "as the ConstraintTemplates of Gatekeeper's have it (frameworks/constraint, deploy/crds.yaml): no conditions at all",
		schema: `{type: object, properties: {created: {type: boolean}, byPod: {type: array, items: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {
			id: {type: string}, observedGeneration: {type: integer, format: int64},
			errors: {type: array, items: {type: object, required: [code, message], properties: {code: {type: string}, location: {type: string}, message: {type: string}}}}}}}}}`,
		wantPods: []string{"a", "b"},
	},
	"PlainList": {
		reason: "a list that is no map, of which fields are dropped",
		schema: `{type: object, properties: {conditions: {type: array, items: {type: object, properties: {
			type: {type: string}, status: {type: string}, lastTransitionTime: {type: string, format: date-time}}}}}}`,
		want: []string{"One", "Two"},
	},
	"OnlyTimes": {
		reason: "whatever is written, the time is all that stays, and differs each time",
		schema: `{type: object, properties: {conditions: {type: array, items: {type: object, properties: {
			type: {type: string}, lastTransitionTime: {type: string}}}}}}`,
		want: []string{"One", "Two"},
	},
	"Dropped": {reason: "a status with nothing in it", schema: `{type: object}`},
}

// TestSchemas has two conditions and two pods write to one object, each whenever it
// sees what it wrote missing, as controllers do.
func TestSchemas(t *testing.T) {
	c := newClient(t)
	for kind, tc := range schemas {
		t.Run(kind, func(t *testing.T) {
			u := newObject(t, c, kind, "one")
			writes := 0
			counted := interceptor.NewClient(c, interceptor.Funcs{
				SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
					writes++
					return c.SubResource(sub).Patch(ctx, o, p, opts...)
				},
				SubResourceApply: func(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
					writes++
					return c.SubResource(sub).Apply(ctx, o, opts...)
				},
			})
			round := func() {
				t.Helper()
				for _, conditionType := range []string{"One", "Two"} {
					u = current(t, c, u)
					if _, err := status.Condition(t.Context(), counted, u, condition(conditionType, "fine")); err != nil {
						t.Fatal(err)
					}
				}
				for _, pod := range []string{"a", "b"} {
					w, err := status.NewWriter(counted, pod, nil)
					if err != nil {
						t.Fatal(err)
					}
					u = current(t, c, u)
					if err := w.Template(t.Context(), u, nil, nil, ""); err != nil {
						t.Fatal(err)
					}
				}
				u = current(t, c, u)
			}
			round()
			round() // may be needed to find out
			if got := conditionTypes(u); !slices.Equal(got, tc.want) {
				t.Errorf("%s: conditions %v, want %v", tc.reason, got, tc.want)
			}
			if got := pods(u); !slices.Equal(got, tc.wantPods) {
				t.Errorf("%s: entries of pods %v, want %v", tc.reason, got, tc.wantPods)
			}
			version := u.GetResourceVersion()
			writes = 0
			round()
			if writes != 0 || u.GetResourceVersion() != version {
				t.Errorf("%s: %d writes, although nothing is new", tc.reason, writes)
			}
		})
	}
}

func condition(conditionType, message string) metav1.Condition {
	return metav1.Condition{Type: conditionType, Status: metav1.ConditionTrue, Reason: "Tested", Message: message}
}

func conditionTypes(u *unstructured.Unstructured) []string {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var out []string
	for _, item := range list {
		out = append(out, item.(map[string]any)["type"].(string))
	}
	slices.Sort(out)
	return out
}

func pods(u *unstructured.Unstructured) []string {
	var out []string
	for id := range status.Entries(u) {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// TestCondition checks what is kept and what is filled in.
func TestCondition(t *testing.T) {
	c := newClient(t)
	u := newObject(t, c, "Conditioned", "one")
	write := func(want metav1.Condition) metav1.Condition {
		t.Helper()
		if _, err := status.Condition(t.Context(), c, u, want); err != nil {
			t.Fatal(err)
		}
		u = current(t, c, u)
		got := apimeta.FindStatusCondition(status.Conditions(u), want.Type)
		if got == nil || got.Status != want.Status || got.Message != want.Message || got.ObservedGeneration != u.GetGeneration() || got.LastTransitionTime.IsZero() {
			t.Fatalf("got %v, want %v", got, want)
		}
		return *got
	}
	first := write(condition("One", "fine"))
	old := metav1.NewTime(first.LastTransitionTime.Add(-time.Hour).UTC())
	setTransition(t, c, u, old)
	u = current(t, c, u)
	if again := write(condition("One", "still fine")); !again.LastTransitionTime.Equal(&old) {
		t.Errorf("the status is the same: transition at %v, want %v", again.LastTransitionTime, old)
	}
	broken := condition("One", "broken")
	broken.Status = metav1.ConditionFalse
	if now := write(broken); now.LastTransitionTime.Equal(&old) {
		t.Error("the status is another, but not the time of the transition")
	}
}

// setTransition says as the writer itself that the condition is that old.
func setTransition(t *testing.T, c client.Client, u *unstructured.Unstructured, at metav1.Time) {
	t.Helper()
	conditions := status.Conditions(u)
	conditions[0].LastTransitionTime = at
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&conditions[0])
	if err != nil {
		t.Fatal(err)
	}
	applyAs(t, c, u, "fusegate/condition-One", map[string]any{"conditions": []any{fields}})
}

func applyAs(t *testing.T, c client.Client, u *unstructured.Unstructured, owner client.FieldOwner, fields map[string]any) {
	t.Helper()
	patch := &unstructured.Unstructured{Object: map[string]any{"status": fields}}
	patch.SetGroupVersionKind(u.GroupVersionKind())
	patch.SetName(u.GetName())
	if err := c.Status().Apply(t.Context(), client.ApplyConfigurationFromUnstructured(patch), owner, client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
}

// TestTakeover has what an earlier version applied under one manager for all.
func TestTakeover(t *testing.T) {
	c := newClient(t)
	u := newObject(t, c, "Taken", "one")
	ready := map[string]any{"type": "Ready", "status": "False", "reason": "Old", "message": "old", "lastTransitionTime": "2026-01-02T03:04:05Z"}
	applyAs(t, c, u, "fusegate/leader", map[string]any{"created": true, "conditions": []any{ready}})
	applyAs(t, c, u, "fusegate/audit", map[string]any{"totalViolations": int64(3), "conditions": []any{map[string]any{"type": "Audited", "status": "True", "reason": "Old"}}})

	if err := status.Published(t.Context(), c, current(t, c, u), false, condition("Ready", "new")); err != nil {
		t.Fatal(err)
	}
	found := status.Audit{Total: 3, Condition: condition("Audited", "new"), At: time.Now(), Read: time.Now()}
	if _, err := status.Audited(t.Context(), c, current(t, c, u), found, time.Hour); err != nil {
		t.Fatal(err)
	}
	u = current(t, c, u)
	if got := conditionTypes(u); !slices.Equal(got, []string{"Audited", "Ready"}) {
		t.Errorf("got conditions %v, want each once", got)
	}
	if created, _, _ := unstructured.NestedBool(u.Object, "status", "created"); !created {
		t.Errorf("got status %v: created is lost", u.Object["status"])
	}
	if total, _, _ := unstructured.NestedInt64(u.Object, "status", "totalViolations"); total != 3 {
		t.Errorf("got status %v: the total is lost", u.Object["status"])
	}
	var managers []string
	for _, f := range u.GetManagedFields() {
		if f.Subresource == "status" {
			managers = append(managers, f.Manager)
		}
	}
	slices.Sort(managers)
	if diff := cmp.Diff([]string{"fusegate/condition-Audited", "fusegate/condition-Ready"}, managers); diff != "" {
		t.Errorf("managers (-want +got):\n%s", diff)
	}
}

// define defines AuditReports and kinds of constraints: those of schemas, and one
// for each test that wants what Fusegate's CRDs say.
func define(ctx context.Context, cp *controlplane.ControlPlane) error {
	c, err := client.New(cp.Config(controlplane.Admin), client.Options{})
	if err != nil {
		return err
	}
	reports, err := fs.ReadFile(manifests.FS, "crds/auditreports.yaml")
	definitions := []string{string(reports)}
	for kind, tc := range schemas {
		definitions = append(definitions, definition(kind, tc.schema))
	}
	for _, kind := range []string{"Wants", "Printed", "Conditioned", "Taken"} {
		definitions = append(definitions, definition(kind, schemas["Map"].schema))
	}
	for _, text := range definitions {
		u := &unstructured.Unstructured{}
		err = errors.Join(err, yaml.Unmarshal([]byte(text), &u.Object), c.Create(ctx, u))
	}
	return err
}

// definition is the CRD of a kind of constraint with a schema of its status.
func definition(kind, schema string) string {
	plural := strings.ToLower(kind)
	return fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.constraints.gatekeeper.sh}
spec:
  group: constraints.gatekeeper.sh
  scope: Cluster
  names: {kind: %[1]s, plural: %[2]s}
  versions:
  - name: v1beta1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema: {type: object, properties: {
        spec: {type: object, x-kubernetes-preserve-unknown-fields: true},
        status: %[3]s}}
`, kind, plural, strings.ReplaceAll(schema, "\t", " "))
}

func current(t *testing.T, c client.Client, u *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(u.GroupVersionKind())
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(u), out); err != nil {
		t.Fatal(err)
	}
	return out
}
