package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
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
// are there at once; each case is one request. Some are kubectl's too, whose user
// is to read those words.
func TestSemantics(t *testing.T) {
	c := start(t)
	table := readSemantics(t)
	if n := len(table.Cases); n < minSemanticCases {
		t.Errorf("%d cases go through the API server, want at least %d", n, minSemanticCases)
	}
	c.seed(t, table)
	c.enforce(t, table)
	printed := map[string]bool{}
	for _, tc := range table.Cases {
		t.Run(tc.Name, func(t *testing.T) {
			if got, want := c.ask(t, &tc), tc.answer(); got != want {
				t.Errorf("%s\n got %q\nwant %q", tc.Reason, got, want)
			}
			sort := fmt.Sprint(tc.Request.Operation, tc.Want.Denied != "", len(tc.Want.Warnings) > 0)
			if printed[sort] {
				return
			}
			printed[sort] = true
			if got, want := c.request(t, &tc), tc.printed(); got != want {
				t.Errorf("%s: kubectl printed\n got %q\nwant %q", tc.Reason, got, want)
			}
		})
	}
	c.withdraw(t, table)
}

// seed creates the namespaces and the objects that the cases change or delete,
// before there is a constraint.
func (c *testCluster) seed(t *testing.T, table semanticTable) {
	t.Helper()
	var objects []*unstructured.Unstructured
	for _, name := range table.used() {
		namespace := env.Object("v1", "Namespace", "", name)
		namespace.SetLabels(table.Namespaces[name])
		objects = append(objects, namespace)
	}
	for _, tc := range table.Cases {
		if tc.Request.OldObject != nil {
			objects = append(objects, &unstructured.Unstructured{Object: tc.Request.OldObject})
		}
	}
	for _, u := range append(objects, env.Parse(t, armedObject)) {
		c.CreateObjects(t, u)
		t.Cleanup(func() {
			if err := client.IgnoreNotFound(c.Client(t).Delete(context.WithoutCancel(t.Context()), u)); err != nil {
				t.Errorf("clearing up: %v", err)
			}
		})
	}
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

// templates are those that the cases use, by name.
func (table semanticTable) templates(t *testing.T) map[string]semanticDoc {
	t.Helper()
	templates := map[string]semanticDoc{"onany": table.Templates["OnAny"]}
	for _, tc := range table.Cases {
		for _, u := range tc.constraints(t) {
			kind := u["kind"].(string)
			templates[strings.ToLower(kind)] = tc.templateOf(table, kind)
		}
	}
	return templates
}

// enforce creates all templates and constraints, and returns once the API server
// asks about every kind and operation and the manager has every constraint in
// force.
func (c *testCluster) enforce(t *testing.T, table semanticTable) {
	t.Helper()
	templates := table.templates(t)
	for name, template := range templates {
		c.DropTemplates(t, name)
		c.CreateObjects(t, &unstructured.Unstructured{Object: template})
	}
	for name := range templates {
		c.AwaitTemplate(t, name)
	}
	want := map[string]int{"OnAny": 1}
	for _, tc := range table.Cases {
		for _, u := range tc.constraints(t) {
			want[u["kind"].(string)]++
			c.CreateObjects(t, &unstructured.Unstructured{Object: u})
		}
	}
	c.Apply(t, armed)
	for kind, n := range want {
		c.awaitAllEnforced(t, kind, n)
	}
	c.AwaitCreate(t, strings.Replace(armedObject, "name: sem-armed", "name: sem-armed-new", 1), fusegate.Denied+"[sem-armed] violated")
	env.Await(t, "deletions to be judged", func() error {
		_, err := c.Ask(t, controlplane.Admin, func(ctx context.Context, cl client.Client) error {
			return cl.Delete(ctx, env.Parse(t, armedObject), client.DryRunAll)
		})
		if err == nil || !strings.Contains(err.Error(), "[sem-armed] violated") {
			return fmt.Errorf("got %q", fmt.Sprint(err))
		}
		return nil
	})
}

// awaitAllEnforced returns once every constraint of a kind is enforced as written.
func (c *testCluster) awaitAllEnforced(t *testing.T, kind string, want int) {
	t.Helper()
	env.Await(t, "the constraints of "+kind+" to be enforced", func() error {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(engine.ConstraintGroup + "/v1beta1")
		list.SetKind(kind + "List")
		if err := c.Client(t).List(t.Context(), list); err != nil {
			return err
		}
		if len(list.Items) != want {
			return fmt.Errorf("%d constraints, want %d", len(list.Items), want)
		}
		for _, u := range list.Items {
			status := fusegate.StatusOf(t, &u)
			enforced := len(status.ByPod) > 0
			for _, e := range status.ByPod {
				enforced = enforced && e.Enforced && e.ObservedGeneration == u.GetGeneration()
			}
			if !enforced {
				return fmt.Errorf("%s: status %+v", u.GetName(), status)
			}
		}
		return nil
	})
}

// ask makes the case's request without storing anything, and returns what is said
// of it.
func (c *testCluster) ask(t *testing.T, tc *semanticCase) string {
	t.Helper()
	user := controlplane.Admin
	if tc.Request.User != "" {
		user += " as " + tc.Request.User
	}
	object := &unstructured.Unstructured{Object: tc.Request.Object}
	warnings, err := c.Ask(t, user, func(ctx context.Context, cl client.Client) error {
		switch tc.Request.Operation {
		case "DELETE":
			return cl.Delete(ctx, &unstructured.Unstructured{Object: tc.Request.OldObject}, client.DryRunAll)
		case "UPDATE":
			stored := env.Object(object.GetAPIVersion(), object.GetKind(), "", "")
			if err := cl.Get(ctx, client.ObjectKeyFromObject(object), stored); err != nil {
				return err
			}
			now := object.DeepCopy()
			now.SetResourceVersion(stored.GetResourceVersion())
			return cl.Update(ctx, now, client.DryRunAll)
		}
		return cl.Create(ctx, object.DeepCopy(), client.DryRunAll)
	})
	if err != nil && !apierrors.IsForbidden(err) {
		t.Errorf("got %v, want it forbidden or done", err)
	}
	return fusegate.Answer(warnings, err)
}

// request makes the case's request by kubectl without storing anything, and returns
// what that prints to standard error.
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
func (c *testCluster) withdraw(t *testing.T, table semanticTable) {
	t.Helper()
	for name := range table.templates(t) {
		if err := c.Client(t).Delete(t.Context(), env.Object(engine.TemplateGroup+"/v1", "ConstraintTemplate", "", name)); err != nil {
			t.Fatal(err)
		}
	}
	c.AwaitCreate(t, strings.Replace(armedObject, "name: sem-armed", "name: sem-armed-new", 1), "")
}
