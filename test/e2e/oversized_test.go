package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// sized is a constraint of SizeLabels with this spec.
func sized(name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "SizeLabels", "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// oversized are constraints that are larger than one may be, and what is said of each.
func oversized() map[string]struct {
	spec map[string]any
	want string
} {
	texts := func(format string, n int) []any {
		out := make([]any, n)
		for i := range out {
			out[i] = fmt.Sprintf(format, i)
		}
		return out
	}
	match := func(field string, v any) map[string]any { return map[string]any{"match": map[string]any{field: v}} }
	deep := any("x")
	for range 500 {
		deep = []any{deep}
	}
	return map[string]struct {
		spec map[string]any
		want string
	}{
		"many-groups":     {match("kinds", []any{map[string]any{"apiGroups": texts("g%05d.example.com", 40_000), "kinds": []any{"*"}}}), "spec.match.kinds[0].apiGroups: 40000 items, at most 2000 are allowed: use"},
		"many-kinds":      {match("kinds", []any{map[string]any{"apiGroups": []any{"apps"}, "kinds": texts("Kind%05d", 40_000)}}), "spec.match.kinds[0].kinds: 40000 items"},
		"many-namespaces": {match("excludedNamespaces", texts("team-%d-*", 20_000)), "spec.match.excludedNamespaces: 20000 items"},
		"many-labels": {match("labelSelector", map[string]any{"matchExpressions": []any{map[string]any{"key": "a", "operator": "In", "values": texts("v%d", 20_000)}}}),
			"spec.match.labelSelector.matchExpressions"},
		"large": {map[string]any{"parameters": map[string]any{"label": strings.Repeat("x", 1<<20)}}, "bytes of JSON, at most 524288 are allowed"},
		"deep":  {map[string]any{"parameters": map[string]any{"more": deep}}, "lists and objects lie in each other"},
	}
}

// TestOversizedConstraint: a constraint that is too large is refused with what to do,
// and one that was stored before there was a bound, or while nobody answered, costs
// only itself.
func TestOversizedConstraint(t *testing.T) {
	c := start(t)
	c.Must(t, "", "create", "namespace", "sized")
	template := strings.Replace(fusegate.LabelTemplate("SizeLabels", "missing"), "properties: {label: {type: string}}", "x-kubernetes-preserve-unknown-fields: true", 1)
	c.Must(t, template, "apply", "-f", "-")
	c.AwaitTemplate(t, "sizelabels")
	t.Cleanup(func() {
		_, _, _ = c.CP.Kubectl(context.WithoutCancel(t.Context()), controlplane.Admin, "", "delete", "constrainttemplate", "sizelabels", "--wait=false")
	})
	const match = `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}, {apiGroups: [apps, later-1.example.com, later-2.example.com], kinds: ["*"]}], namespaces: [sized]}`
	c.Must(t, fusegate.Constraint("SizeLabels", "small", "deny", "owner", match), "apply", "-f", "-")
	c.AwaitEnforced(t, "sizelabels/small")
	denied := fusegate.Denied + "[small] missing label owner"

	t.Run("unserved groups have no rules", func(t *testing.T) {
		live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
		if err := c.Client(t).Get(t.Context(), client.ObjectKey{Name: "fusegate"}, live); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(live.Webhooks)
		if err != nil || !strings.Contains(string(text), `"apps"`) || strings.Contains(string(text), "later-") {
			t.Errorf("the rules are %s (%v), want apps among them and no group that is not served", text, err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for name, tc := range oversized() {
			_, err := c.Create(t, controlplane.Admin, sized(name, tc.spec))
			if err == nil || !strings.Contains(err.Error(), tc.want) && !strings.Contains(err.Error(), "must have at most") {
				t.Errorf("%s: got %.300v, want %q", name, err, tc.want)
			}
		}
	})
	t.Run("offline", func(t *testing.T) {
		dir := t.TempDir()
		place(t, dir, "template.yaml", template)
		text, err := json.Marshal(sized("many-groups", oversized()["many-groups"].spec).Object)
		if err != nil {
			t.Fatal(err)
		}
		place(t, dir, "constraint.yaml", string(text))
		stdout, stderr, code := fusegate.Run(t, fusegate.ConfigMap("sized", "x"), "test", filepath.Join(dir, "template.yaml"), filepath.Join(dir, "constraint.yaml"), "-")
		if want := oversized()["many-groups"].want; code == 0 || !strings.Contains(stdout+stderr, want) {
			t.Errorf("got %d: %s%s, want %q", code, stdout, stderr, want)
		}
	})
	t.Run("stored before", func(t *testing.T) {
		if err := c.Manager.End(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		unbound(t, c)
		for name, tc := range oversized() {
			env.Await(t, name+" to be stored", func() error {
				_, err := c.Create(t, controlplane.Admin, sized(name, tc.spec))
				return client.IgnoreAlreadyExists(err)
			})
		}
		c.Manager = c.Run(t, "bounded", c.Port)
		c.Manager.AwaitReady(t)
		for name, tc := range oversized() {
			if message := c.AwaitCondition(t, "sizelabels/"+name, "False", "Rejected"); !strings.Contains(message, tc.want) {
				t.Errorf("%s: the condition says %q, want %q", name, message, tc.want)
			}
		}
		c.AwaitEnforced(t, "sizelabels/small")
		c.AwaitCreate(t, fusegate.ConfigMap("sized", "bare"), denied)
	})
	t.Run("made smaller", func(t *testing.T) {
		if err := c.Patch(t, controlplane.Admin, "/apis/constraints.gatekeeper.sh/v1beta1/sizelabels/many-groups", `{"spec":{"match":{"kinds":[{"apiGroups":["apps"],"kinds":["Deployment"]}]},"parameters":{"label":"owner"}}}`); err != nil {
			t.Fatal(err)
		}
		c.AwaitEnforced(t, "sizelabels/many-groups")
	})
}

// unbound takes the bounds out of the CRD of SizeLabels, as it was before there were
// any.
func unbound(t *testing.T, c *testCluster) {
	t.Helper()
	crd := env.Object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "sizelabels.constraints.gatekeeper.sh")
	if err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(crd), crd); err != nil {
		t.Fatal(err)
	}
	withoutBounds(crd.Object)
	if err := c.Client(t).Update(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
}

func withoutBounds(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "maxItems")
		for _, item := range v {
			withoutBounds(item)
		}
	case []any:
		for _, item := range v {
			withoutBounds(item)
		}
	}
}
