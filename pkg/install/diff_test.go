package install_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/install"
)

// TestDryRunShowsFields checks what a dry run says of an installation that
// differs from the plan, and that it says nothing of what is in the Secret.
func TestDryRunShowsFields(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	secret := named("v1", "Secret", install.CertSecretName)
	for _, u := range render(t, ownConfig(t)).Objects {
		if u.GetKind() == secret.GetKind() && u.GetName() == secret.GetName() {
			secret = u.DeepCopy()
		}
	}
	secret.Object["data"] = map[string]any{"tls.key": "eHl6enk="}
	serverSide(t, c, install.FieldManager, secret)
	unstructured.RemoveNestedField(secret.Object, "data")
	secret.SetLabels(map[string]string{"app.kubernetes.io/component": "edited"})
	serverSide(t, c, "editor", secret)

	next := slower(t)
	next.Image, next.WebhookReplicas = "registry.example.com/fusegate:v2", 5
	changes, err := render(t, next).Apply(t.Context(), c, install.ApplyOptions{DryRun: true, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, change := range changes {
		if (change.Action == install.Configured) != (len(change.Fields) > 0) {
			t.Errorf("%s %s: got fields %v", change.Object, change.Action, change.Fields)
		}
		for _, f := range change.Fields {
			got[change.Object.Kind+" "+change.Object.Name] = append(got[change.Object.Kind+" "+change.Object.Name], f.String())
		}
	}
	delete(got, "Deployment fusegate-controller")
	got["ConfigMap fusegate-config"] = slices.DeleteFunc(got["ConfigMap fusegate-config"], func(f string) bool {
		return strings.Contains(f, "fusegate.dev/rendering")
	})
	hash := got["Deployment fusegate-webhook"]
	if len(hash) != 3 || !strings.HasPrefix(hash[1], `spec.template.metadata.annotations["fusegate.dev/config-hash"]: "`) {
		t.Fatalf("got %q, want the replicas, the hash and the image", hash)
	}
	want := map[string][]string{
		"Secret fusegate-webhook-cert": {`- data: {"tls.key":"(8 characters, not shown)"}`, `metadata.labels["app.kubernetes.io/component"]: "edited" -> "webhook"`},
		"ConfigMap fusegate-config": {`data["fusegate.yaml"]:` +
			"\n  - image: " + image + "\n  - timeoutSeconds: 3\n  - webhookReplicas: 3\n  + image: registry.example.com/fusegate:v2\n  + timeoutSeconds: 2\n  + webhookReplicas: 5"},
		"Deployment fusegate-webhook": {"spec.replicas: 3 -> 5", hash[1], `spec.template.spec.containers[fusegate].image: "` + image + `" -> "registry.example.com/fusegate:v2"`},
		"ValidatingWebhookConfiguration fusegate": {
			"webhooks[policies.fusegate.dev].timeoutSeconds: 3 -> 2", "webhooks[probe.fusegate.dev].timeoutSeconds: 3 -> 2", "webhooks[validation.fusegate.dev].timeoutSeconds: 3 -> 2",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if !exists(t, c, secret) || secret.GetLabels()["app.kubernetes.io/component"] != "edited" {
		t.Errorf("the dry run changed the Secret: %v", secret.GetLabels())
	}
}

func TestFieldChange(t *testing.T) {
	for want, f := range map[string]install.FieldChange{
		`+ a: {"b":1}`:                 {Field: "a", New: map[string]any{"b": 1}},
		`- a.b: "x"`:                   {Field: "a.b", Old: "x"},
		`a: 1 -> "1"`:                  {Field: "a", Old: 1, New: "1"},
		"a:\n  - x\n  + y":             {Field: "a", Old: "x\nz", New: "y\nz"},
		"a: the order of lines":        {Field: "a", Old: "x\nz", New: "z\nx"},
		`a: ["x","y"] -> ["x"]`:        {Field: "a", Old: []any{"x", "y"}, New: []any{"x"}},
		`a: "one line" -> "two words"`: {Field: "a", Old: "one line", New: "two words"},
	} {
		if diff := cmp.Diff(want, f.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
