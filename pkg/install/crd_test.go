package install_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
)

// template has every field that a template can have.
const template = `
apiVersion: templates.gatekeeper.sh/%[1]s
kind: ConstraintTemplate
metadata:
  name: needslabels%[1]s
  annotations:
    metadata.gatekeeper.sh/title: Labels
    metadata.gatekeeper.sh/version: 1.0.0
spec:
  crd:
    spec:
      names:
        kind: NeedsLabels%[1]s
        shortNames: [nl%[1]s]
      validation:
        openAPIV3Schema:
          type: object
          properties:
            labels:
              type: array
              items:
                type: string
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package needslabels
      violation[{"msg": "no"}] { false }
    libs:
    - |
      package lib.x
    operations: ["*", CREATE, UPDATE, DELETE, CONNECT]
    code:
    - engine: Rego
      source:
        version: v1
        rego: |
          package needslabels
        libs: [package lib.x]
    - engine: K8sNativeValidation
      source:
        failurePolicy: Fail
        generateVAP: true
        matchCondition:
        - name: x
          expression: "true"
        variables:
        - name: y
          expression: "1"
        validations:
        - expression: "true"
          messageExpression: "'no'"
`

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), u); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestTemplates(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	strict := client.WithFieldValidation(c, "Strict")
	for version, legacy := range map[string]bool{"v1": false, "v1beta1": true, "v1alpha1": true} {
		given := parse(t, fmt.Sprintf(template, version))
		made := given.DeepCopy()
		if err := strict.Create(t.Context(), made); err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		// What is stored is the same whichever version was written or is read.
		stored := named("templates.gatekeeper.sh/v1", "ConstraintTemplate", made.GetName())
		if !exists(t, c, stored) {
			t.Fatalf("%s: not served as v1", version)
		}
		got, _, _ := unstructured.NestedBool(stored.Object, "spec", "crd", "spec", "validation", "legacySchema")
		if got != legacy {
			t.Errorf("%s: got legacySchema %v, want %v", version, got, legacy)
		}
		unstructured.RemoveNestedField(stored.Object, "spec", "crd", "spec", "validation", "legacySchema")
		if diff := cmp.Diff(given.Object["spec"], stored.Object["spec"]); diff != "" {
			t.Errorf("%s: spec (-given +stored):\n%s", version, diff)
		}
	}
}

func TestTemplateWithoutValidation(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	for version, legacy := range map[string]bool{"v1": false, "v1beta1": true, "v1alpha1": true} {
		u := parse(t, fmt.Sprintf(template, version))
		unstructured.RemoveNestedField(u.Object, "spec", "crd", "spec", "validation")
		if err := c.Create(t.Context(), u); err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		got, found, _ := unstructured.NestedBool(u.Object, "spec", "crd", "spec", "validation", "legacySchema")
		if !found || got != legacy {
			t.Errorf("%s: got legacySchema %v (%v), want %v", version, got, found, legacy)
		}
	}
}

func TestTemplateRefused(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	strict := client.WithFieldValidation(c, "Strict")
	for name, edit := range map[string][2]string{
		"UnknownField":  {"shortNames:", "shortName:"},
		"BadOperation":  {"CONNECT]", "PROXY]"},
		"SameEngine":    {"engine: K8sNativeValidation", "engine: Rego"},
		"WithoutEngine": {"- engine: K8sNativeValidation\n      source:", "- source:"},
	} {
		text := strings.Replace(fmt.Sprintf(template, "v1"), edit[0], edit[1], 1)
		if text == fmt.Sprintf(template, "v1") {
			t.Fatalf("%s: %q is not in the template", name, edit[0])
		}
		if err := strict.Create(t.Context(), parse(t, text)); err == nil {
			t.Errorf("%s: accepted, want an error", name)
		}
	}
}

// account is a client as one of Fusegate's own service accounts.
func account(t *testing.T, name string) client.Client {
	t.Helper()
	ns := ownConfig(t).Namespace
	who := plane(t).Config(controlplane.Admin)
	who.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + ns + ":" + name,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"},
	}
	return as(t, who)
}

// ids are those of the entries in status.byPod.
func ids(t *testing.T, c client.Client, u *unstructured.Unstructured) []string {
	t.Helper()
	if !exists(t, c, u) {
		t.Fatalf("%s is gone", u.GetName())
	}
	list, _, err := unstructured.NestedSlice(u.Object, "status", "byPod")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, item := range list {
		id, _ := item.(map[string]any)["id"].(string)
		out = append(out, id)
	}
	return out
}

// TestStatusByPod checks that every pod owns its own entry, with the rights of
// the accounts that pods have.
func TestStatusByPod(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	u := parse(t, fmt.Sprintf(template, "v1"))
	if err := c.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	write := func(account client.Client, pod string, status map[string]any) {
		t.Helper()
		patch := named("templates.gatekeeper.sh/v1", "ConstraintTemplate", u.GetName())
		patch.SetUID(u.GetUID())
		if status != nil {
			patch.Object["status"] = status
		}
		err := account.Status().Apply(t.Context(), client.ApplyConfigurationFromUnstructured(patch), client.FieldOwner("fusegate-"+pod), client.ForceOwnership)
		if err != nil {
			t.Fatalf("writing the status of %s: %v", pod, err)
		}
	}
	one := func(pod string) map[string]any {
		return map[string]any{"byPod": []any{map[string]any{"id": pod, "observedGeneration": int64(1), "operations": []any{"webhook"}}}}
	}
	webhook, controller := account(t, "fusegate-webhook"), account(t, "fusegate-controller")

	write(webhook, "a", one("a"))
	write(controller, "b", one("b"))
	write(controller, "leader", map[string]any{"created": true, "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}})
	if diff := cmp.Diff([]string{"a", "b"}, ids(t, c, u)); diff != "" {
		t.Errorf("entries of two pods (-want +got):\n%s", diff)
	}
	write(controller, "a", nil)
	if diff := cmp.Diff([]string{"b"}, ids(t, c, u)); diff != "" {
		t.Errorf("entries after the empty apply (-want +got):\n%s", diff)
	}
	if created, _, _ := unstructured.NestedBool(u.Object, "status", "created"); !created {
		t.Error("what another manager wrote into status is gone")
	}
	stdout, _, err := plane(t).Kubectl(t.Context(), controlplane.Admin, "", "get", "constrainttemplates")
	if err != nil || !strings.Contains(stdout, "READY") || !strings.Contains(stdout, "True") {
		t.Errorf("kubectl get: %v\n%s", err, stdout)
	}
}

// foreignCRD is the definition as somebody else may have installed it.
const foreignCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: constrainttemplates.templates.gatekeeper.sh
  labels:
    gatekeeper.sh/system: "yes"
spec:
  group: templates.gatekeeper.sh
  scope: Cluster
  names: {kind: ConstraintTemplate, listKind: ConstraintTemplateList, plural: constrainttemplates, singular: constrainttemplate}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-preserve-unknown-fields: true
          status:
            type: object
            properties:
              byPod:
                type: array
                x-kubernetes-list-type: atomic
                items:
                  type: object
                  x-kubernetes-preserve-unknown-fields: true
`

func TestForeignCRD(t *testing.T) {
	c := blank(t)
	if err := c.Create(t.Context(), parse(t, foreignCRD), client.FieldOwner("helm")); err != nil {
		t.Fatal(err)
	}
	plan := render(t, ownConfig(t))
	changes, err := plan.Apply(t.Context(), c, install.ApplyOptions{Force: true})
	foreign := asError[*install.ForeignCRDError](t, err)
	if len(changes) > 0 || foreign.Object.Name != templatesCRD().GetName() {
		t.Errorf("got changes %v and error %v, want none and the CRD's name", changes, err)
	}
	for _, part := range []string{"CustomResourceDefinition constrainttemplates.templates.gatekeeper.sh", "helm", "TakeOverCRDs"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got error %q, want one with %q", err, part)
		}
	}

	awaitServed(t, c)
	u := parse(t, fmt.Sprintf(template, "v1"))
	if err := c.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), c, install.ApplyOptions{TakeOverCRDs: true}); err != nil {
		t.Fatalf("taking the CRD over: %v", err)
	}
	if !exists(t, c, u) {
		t.Error("the template is gone")
	}
	only(t, apply(t, c, install.ApplyOptions{}), install.Unchanged)

	crd := templatesCRD()
	exists(t, c, crd)
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	text, err := json.Marshal(versions)
	if err != nil || len(versions) != 3 || strings.Contains(string(text), "atomic") {
		t.Errorf("something of the old definition is left: %v %s", err, text)
	}
}
