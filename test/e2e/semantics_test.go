package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// minSemanticCases is how many cases the table has for the API server at least.
const minSemanticCases = 170

// armed denies everything about the ConfigMap that is used to find out whether
// the API server asks the webhook yet, whatever the kind and the operation.
const armed = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: OnAny
metadata: {name: sem-armed}
spec: {parameters: {case: sem-armed}}
`

const armedObject = `
apiVersion: v1
kind: ConfigMap
metadata: {name: sem-armed, namespace: sem-plain, annotations: {semantics: sem-armed}}
`

// TestSemantics takes the cases of pkg/engine's table that a user can bring
// about through a real API server, and wants the same words. All constraints
// are there at once; each case is a request by kubectl.
func TestSemantics(t *testing.T) {
	c := start(t)
	table := readSemantics(t)
	if n := len(table.Cases); n < minSemanticCases {
		t.Errorf("%d cases go through the API server, want at least %d", n, minSemanticCases)
	}
	c.seed(t, table)
	templates := c.enforce(t, table)
	t.Run("cases", func(t *testing.T) {
		for _, tc := range table.Cases {
			t.Run(tc.Name, func(t *testing.T) {
				t.Parallel()
				if got, want := c.request(t, &tc), tc.answer(); got != want {
					t.Errorf("%s\n got %q\nwant %q", tc.Reason, got, want)
				}
			})
		}
	})
	c.withdraw(t, templates)
}

// seed creates the namespaces and the objects that the cases change or delete,
// before there is a constraint.
func (c *testCluster) seed(t *testing.T, table semanticTable) {
	t.Helper()
	var namespaces, old []semanticDoc
	for _, name := range table.used() {
		namespaces = append(namespaces, semanticDoc{
			"apiVersion": "v1", "kind": "Namespace",
			"metadata": map[string]any{"name": name, "labels": table.Namespaces[name]},
		})
	}
	for _, tc := range table.Cases {
		if tc.Request.OldObject != nil {
			old = append(old, tc.Request.OldObject)
		}
	}
	old = append(old, semanticDoc{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{
		"name": "sem-armed", "namespace": "sem-plain", "annotations": map[string]any{"semantics": "sem-armed"},
	}})
	c.Must(t, listOf(t, namespaces), "create", "--validate=false", "-f", "-")
	c.Must(t, listOf(t, old), "create", "--validate=false", "-f", "-")
	t.Cleanup(func() {
		for _, objects := range [][]semanticDoc{old, namespaces} {
			if _, stderr, err := c.CP.Kubectl(context.Background(), controlplane.Admin, listOf(t, objects), "delete", "--wait=false", "--ignore-not-found", "-f", "-"); err != nil {
				t.Errorf("clearing up: %v: %s", err, stderr)
			}
		}
	})
}

// used lists the namespaces that the cases' objects live in.
func (table semanticTable) used() []string {
	used := map[string]bool{"sem-plain": true}
	for _, tc := range table.Cases {
		for _, object := range []semanticDoc{tc.Request.Object, tc.Request.OldObject} {
			if object == nil {
				continue
			}
			if ns := (&unstructured.Unstructured{Object: object}).GetNamespace(); ns != "" {
				used[ns] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(used))
}

// enforce applies all templates and constraints and returns the templates' names
// once the API server asks about every kind and operation and the manager has
// every constraint in force.
func (c *testCluster) enforce(t *testing.T, table semanticTable) []string {
	t.Helper()
	templates, constraints := map[string]semanticDoc{"onany": table.Templates["OnAny"]}, []semanticDoc(nil)
	for _, tc := range table.Cases {
		for _, u := range tc.constraints(t) {
			kind := u["kind"].(string)
			templates[strings.ToLower(kind)] = tc.templateOf(table, kind)
			constraints = append(constraints, u)
		}
	}
	names := slices.Sorted(maps.Keys(templates))
	t.Cleanup(func() {
		args := append([]string{"delete", "constrainttemplate", "--ignore-not-found", "--wait=false"}, names...)
		if _, stderr, err := c.CP.Kubectl(context.Background(), controlplane.Admin, "", args...); err != nil {
			t.Errorf("deleting the templates: %v: %s", err, stderr)
		}
	})
	c.Must(t, listOf(t, slices.Collect(maps.Values(templates))), "create", "-f", "-")
	wait := []string{"wait", "--for=condition=Ready", "--timeout=" + env.Patience.String()}
	for _, name := range names {
		wait = append(wait, "constrainttemplate/"+name)
	}
	c.Must(t, "", wait...)
	c.Must(t, listOf(t, constraints), "create", "--validate=false", "-f", "-")
	c.Must(t, armed, "create", "-f", "-")
	c.awaitEnforced(t, names, len(constraints)+1)
	c.AwaitCreate(t, strings.Replace(armedObject, "name: sem-armed", "name: sem-armed-new", 1), fusegate.Denied+"[sem-armed] violated")
	env.Await(t, "deletions to be judged", func() error {
		_, stderr, _ := c.Kubectl(t, controlplane.Admin, armedObject, "delete", "--dry-run=server", "-f", "-")
		if !strings.Contains(stderr, "[sem-armed] violated") {
			return fmt.Errorf("got %q", stderr)
		}
		return nil
	})
	return names
}

// awaitEnforced returns once every constraint of the templates is enforced as
// written.
func (c *testCluster) awaitEnforced(t *testing.T, templates []string, want int) {
	t.Helper()
	var kinds []string
	for _, name := range templates {
		kinds = append(kinds, name+".constraints.gatekeeper.sh")
	}
	env.Await(t, "the constraints to be enforced", func() error {
		var list struct {
			Items []struct {
				Kind     string
				Metadata struct {
					Name       string
					Generation int64
				}
				Status fusegate.Status
			}
		}
		stdout := c.Must(t, "", "get", strings.Join(kinds, ","), "-o", "json")
		if err := json.Unmarshal([]byte(stdout), &list); err != nil {
			return err
		}
		if len(list.Items) != want {
			return fmt.Errorf("%d constraints, want %d", len(list.Items), want)
		}
		for _, i := range list.Items {
			enforced := len(i.Status.ByPod) > 0
			for _, e := range i.Status.ByPod {
				enforced = enforced && e.Enforced && e.ObservedGeneration == i.Metadata.Generation
			}
			if !enforced {
				return fmt.Errorf("%s/%s: status %+v", i.Kind, i.Metadata.Name, i.Status)
			}
		}
		return nil
	})
}

// request makes the case's request without storing anything, and returns what
// kubectl prints to standard error.
func (c *testCluster) request(t *testing.T, tc *semanticCase) string {
	t.Helper()
	verb, object := "create", tc.Request.Object
	switch tc.Request.Operation {
	case "UPDATE":
		verb = "replace"
	case "DELETE":
		verb, object = "delete", tc.Request.OldObject
	}
	args := []string{verb, "--dry-run=server", "-f", "-"}
	if verb != "delete" {
		args = append(args, "--validate=false") // It would read the API's whole description each time.
	}
	if tc.Request.User != "" {
		args = append(args, "--as="+tc.Request.User, "--as-group=system:masters")
	}
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	_, stderr, _ := c.Kubectl(t, controlplane.Admin, string(text), args...)
	return strings.TrimSpace(stderr)
}

// withdraw deletes the templates and returns once nothing is denied any more.
func (c *testCluster) withdraw(t *testing.T, templates []string) {
	t.Helper()
	c.Must(t, "", append([]string{"delete", "constrainttemplate"}, templates...)...)
	env.Await(t, "the CRDs to go", func() error {
		stdout := c.Must(t, "", "get", "crd", "-o", "name")
		for _, name := range templates {
			if strings.Contains(stdout, "/"+name+".constraints.gatekeeper.sh") {
				return fmt.Errorf("CRD %s is still there", name)
			}
		}
		return nil
	})
	c.AwaitCreate(t, strings.Replace(armedObject, "name: sem-armed", "name: sem-armed-new", 1), "")
}
