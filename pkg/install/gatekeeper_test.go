package install_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

// create creates an object for the time of the test.
func create(t *testing.T, c client.Client, text string) *unstructured.Unstructured {
	t.Helper()
	u := parse(t, text)
	if err := c.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(c.Delete(context.Background(), u)); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return u
}

// deployment is one that starts nothing.
func deployment(namespace, name, labels string) string {
	return `
apiVersion: apps/v1
kind: Deployment
metadata: {name: ` + name + `, namespace: ` + namespace + `, labels: {` + labels + `}}
spec:
  replicas: 0
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {containers: [{name: x, image: x}]}
`
}

// webhooks is a webhook configuration that matches nothing.
func webhookOf(kind, name, entry string) string {
	return `
apiVersion: admissionregistration.k8s.io/v1
kind: ` + kind + `
metadata: {name: ` + name + `}
webhooks:
- name: ` + entry + `
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  clientConfig: {url: "https://192.0.2.1"}
`
}

func TestGatekeeperIsRefused(t *testing.T) {
	c := fresh(t)
	for name, tc := range map[string]struct {
		reason, object string
		want           string // "" if it is not Gatekeeper
	}{
		"Audit":      {"the audit by its name, in any namespace", deployment("default", "gatekeeper-audit", ""), "Deployment default/gatekeeper-audit"},
		"Controller": {"the webhook by its name", deployment("default", "gatekeeper-controller-manager", ""), "Deployment default/gatekeeper-controller-manager"},
		"Renamed":    {"a provider's build by its label", deployment("default", "gatekeeper-controller", `gatekeeper.sh/system: "yes"`), "Deployment default/gatekeeper-controller"},
		"Validating": {"the webhook configuration by its name", webhookOf("ValidatingWebhookConfiguration", "gatekeeper-validating-webhook-configuration", "a.example.com"), "ValidatingWebhookConfiguration gatekeeper-validating-webhook-configuration"},
		"Mutating":   {"and the mutating one", webhookOf("MutatingWebhookConfiguration", "gatekeeper-mutating-webhook-configuration", "a.example.com"), "MutatingWebhookConfiguration gatekeeper-mutating-webhook-configuration"},
		"Entry":      {"a chart may name it otherwise", webhookOf("ValidatingWebhookConfiguration", "policy", "validation.gatekeeper.sh"), "ValidatingWebhookConfiguration policy"},
		"Other":      {"what is somebody else's is none of it", webhookOf("ValidatingWebhookConfiguration", "policy", "validation.notgatekeeper.sh"), ""},
		"Dashboard":  {"nor is what works beside it", deployment("default", "gatekeeper-policy-manager", ""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			u := create(t, c, tc.object)
			changes, err := render(t, ownConfig(t)).Apply(t.Context(), c, install.ApplyOptions{DryRun: true, Force: true})
			if tc.want == "" {
				if err != nil {
					t.Errorf("%s: got error %v", tc.reason, err)
				}
				return
			}
			found := asError[*install.GatekeeperError](t, err)
			if len(found.Found) != 1 || found.Found[0].Name != u.GetName() || len(changes) > 0 || !errors.Is(err, install.ErrRefused) {
				t.Errorf("%s: got %+v and changes %v, want a refusal that names %s only", tc.reason, found.Found, changes, u.GetName())
			}
			for _, part := range []string{tc.want, "two engines", "kubectl delete " + strings.ToLower(u.GetKind()) + " " + u.GetName(), "--take-over-crds"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: got error %q, want one with %q", tc.reason, err, part)
				}
			}
		})
	}
}

const gatekeeperConfigCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: configs.config.gatekeeper.sh}
spec:
  group: config.gatekeeper.sh
  scope: Namespaced
  names: {kind: Config, listKind: ConfigList, plural: configs, singular: config}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

func gatekeeperConfig(name, match string) string {
	return `
apiVersion: config.gatekeeper.sh/v1alpha1
kind: Config
metadata: {name: ` + name + `, namespace: default}
spec:
  match: ` + match + "\n"
}

func TestGatekeeperExclusions(t *testing.T) {
	c := blank(t)
	none, err := install.GatekeeperExclusions(t.Context(), c)
	if err != nil || none != nil {
		t.Fatalf("without Gatekeeper's CRD: got %+v and error %v, want neither", none, err)
	}
	create(t, c, gatekeeperConfigCRD)
	await(t.Context(), t, "Configs to be served", func(ctx context.Context) (bool, error) {
		u := named("config.gatekeeper.sh/v1alpha1", "Config", "x")
		u.SetNamespace("default")
		err := c.Get(ctx, client.ObjectKeyFromObject(u), u)
		return client.IgnoreNotFound(err) == nil && !isNoSuchPath(err), nil
	})
	create(t, c, gatekeeperConfig("other", `[{processes: ["*"], excludedNamespaces: [ignored]}]`))
	create(t, c, gatekeeperConfig("config", `
  - {processes: ["*"], excludedNamespaces: [kube-system, "kube-*", "*-system", a, b]}
  - {processes: [audit, sync, mutation-webhook], excludedNamespaces: [audited]}
  - {processes: [audit, webhook], excludedNamespaces: [a, c]}`))
	found, err := install.GatekeeperExclusions(t.Context(), c)
	if err != nil || found == nil {
		t.Fatalf("got %+v and error %v, want what the Config excludes", found, err)
	}
	if diff := cmp.Diff([]string{"kube-system", "kube-*", "*-system", "a", "b", "c"}, found.Namespaces); diff != "" || found.Source.String() != "Config default/config" {
		t.Errorf("%s excludes (-want +got):\n%s", found.Source, diff)
	}
	imported, err := found.Import(config.Config{Image: image, Exempt: exempt.Options{Namespaces: []string{"b", "z"}}})
	if err != nil {
		t.Fatalf("Import: %v", err)
	}
	if diff := cmp.Diff([]string{"b", "z", "kube-*", "*-system", "a", "c"}, imported.Exempt.Namespaces); diff != "" {
		t.Errorf("exempt.namespaces (-want +got):\n%s", diff)
	}
	if text := configText(render(t, imported)); !strings.Contains(text, "kube-*") {
		t.Errorf("the import is not in the ConfigMap: %s", text)
	}
	if missing, err := found.Missing(imported); err != nil || len(missing) > 0 {
		t.Errorf("after the import: got %v and error %v missing, want none", missing, err)
	}
}

func TestImportRefuses(t *testing.T) {
	source := install.Ref{Namespace: "gatekeeper-system", Name: "config"}
	source.Kind = "Config"
	e := &install.Exclusions{Source: source, Namespaces: []string{"fine", "*", "*mid*", "Upper"}}
	got, err := e.Import(config.Config{Image: image})
	if !errors.Is(err, install.ErrRefused) || len(got.Exempt.Namespaces) > 0 {
		t.Fatalf("got %v and error %v, want a refusal and nothing added", got.Exempt.Namespaces, err)
	}
	for _, part := range []string{`Config gatekeeper-system/config excludes "*",`, `excludes "*mid*",`, `excludes "Upper",`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got error %q, want one with %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "fine") {
		t.Errorf("got error %q, which names what can be expressed", err)
	}
}
