package engine_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/policy"
)

// document is decoded JSON whose integers are int64, as in a review.
type document map[string]any

func (d *document) UnmarshalJSON(data []byte) error {
	return utiljson.Unmarshal(data, (*map[string]any)(d))
}

// semanticTable is the files of testdata/semantics taken together. The test of
// cmd/fusegate/app reads the same files and takes the cases marked apiserver
// through a real API server.
type semanticTable struct {
	// Namespaces are the labels of the namespaces that are known.
	Namespaces map[string]map[string]string `json:"namespaces"`
	// Templates are ConstraintTemplates by the kind of their constraints.
	Templates map[string]document `json:"templates"`
	Cases     []semanticCase      `json:"cases"`
}

// semanticCase is one review and what it comes to.
type semanticCase struct {
	Name string `json:"name"`
	// Reason is the clause of docs/compatibility.md or of Gatekeeper's
	// documentation that the case pins.
	Reason string `json:"reason"`
	// Template is the kind of a template of the table, Always if empty. Rego
	// makes a template of this case's own instead.
	Template string `json:"template"`
	Rego     string `json:"rego"`
	// Constraints are what is left to say of each: apiVersion, kind and name
	// default to v1beta1, the template's kind and the case's name. Match is
	// short for one constraint with this match block, and so is neither.
	Constraints []document      `json:"constraints"`
	Match       document        `json:"match"`
	Request     semanticRequest `json:"request"`
	// Matches is short for a Want: true for one violation of a single denying
	// constraint with the message "violated", false for nothing at all.
	Matches *bool        `json:"matches"`
	Want    semanticWant `json:"want"`
	// APIServer says that a user can make the request of an API server.
	APIServer bool `json:"apiserver"`
}

// semanticRequest is a request. Object defaults to a ConfigMap named subject in
// the namespace sem-plain, and to oldObject for DELETE.
type semanticRequest struct {
	Operation policy.Operation        `json:"operation"`
	Object    document                `json:"object"`
	OldObject document                `json:"oldObject"`
	User      string                  `json:"user"`
	Source    policy.Source           `json:"source"`
	Point     policy.EnforcementPoint `json:"point"`
	// Kind, of the core group, stands for the absence of any object.
	Kind string `json:"kind"`
	// What the request says beside its object.
	Name        string `json:"name"`
	Namespace   string `json:"namespace"`
	SubResource string `json:"subResource"`
}

// semanticWant is what a case comes to.
type semanticWant struct {
	// Violations are written "action [constraint] message", sorted.
	Violations []string `json:"violations"`
	// Details are those of the violations; nil is not compared.
	Details []any `json:"details"`
	// Faults are written "cause [constraint] error", sorted.
	Faults []string `json:"faults"`
	// Denied is the text of the denial at the webhook, empty if the request is
	// allowed, and Warnings what it is answered with in both cases.
	Denied   string   `json:"denied"`
	Warnings []string `json:"warnings"`
	// Undecided says that the request cannot be answered.
	Undecided bool `json:"undecided"`
}

func readSemantics(t *testing.T) semanticTable {
	t.Helper()
	files, err := filepath.Glob("testdata/semantics/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := semanticTable{Namespaces: map[string]map[string]string{}, Templates: map[string]document{}}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var one semanticTable
		if err := yaml.UnmarshalStrict(content, &one); err != nil {
			t.Fatalf("reading %s: %v", name, err)
		}
		maps.Copy(all.Namespaces, one.Namespaces)
		maps.Copy(all.Templates, one.Templates)
		all.Cases = append(all.Cases, one.Cases...)
	}
	for i := range all.Cases {
		all.Cases[i].expand()
	}
	return all
}

// expand writes out what the case says in short.
func (c *semanticCase) expand() {
	if c.Matches != nil && *c.Matches {
		line := "[" + c.Name + "] violated"
		c.Want = semanticWant{Violations: []string{"deny " + line}, Denied: line}
	}
	if len(c.Constraints) == 0 {
		c.Constraints = []document{{}}
	}
	if c.Match != nil {
		c.Constraints[0] = document{"spec": map[string]any{"match": map[string]any(c.Match)}}
	}
	r := &c.Request
	if r.Operation == "" && r.Point == "" {
		r.Operation = policy.Create
	}
	r.Point = cmp.Or(r.Point, policy.PointWebhook)
	if r.OldObject != nil {
		complete(r.OldObject)
	}
	switch {
	case r.Operation == policy.Delete:
		r.Object = r.OldObject
	case r.Kind == "" && r.Object == nil:
		r.Object = document{}
		complete(r.Object)
	case r.Kind == "":
		complete(r.Object)
	}
}

// complete gives an object what it does not say of itself.
func complete(object document) {
	meta, _ := object["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		object["metadata"] = meta
	}
	if object["kind"] != nil {
		return
	}
	object["apiVersion"], object["kind"] = "v1", "ConfigMap"
	if meta["name"] == nil && meta["generateName"] == nil {
		meta["name"] = "subject"
	}
	if meta["namespace"] == nil {
		meta["namespace"] = "sem-plain"
	}
}

// kind is the kind of the case's template.
func (c *semanticCase) kind() string {
	if c.Rego == "" {
		return cmp.Or(c.Template, "Always")
	}
	return "Sem" + strings.ReplaceAll(c.Name, "-", "")
}

// template finds or makes the template of a kind that the case uses.
func (c *semanticCase) template(t *testing.T, table semanticTable, kind string) *unstructured.Unstructured {
	t.Helper()
	if c.Rego != "" {
		text := strings.ReplaceAll(template(c.Rego), "Probe", kind)
		return object(t, strings.ReplaceAll(text, "probe", strings.ToLower(kind)))
	}
	found, ok := table.Templates[kind]
	if !ok {
		t.Fatalf("template %s is not in the table", kind)
	}
	return &unstructured.Unstructured{Object: found}
}

// constraints are the case's constraints in full.
func (c *semanticCase) constraints() []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, declared := range c.Constraints {
		u := (&unstructured.Unstructured{Object: declared}).DeepCopy()
		u.SetAPIVersion(cmp.Or(u.GetAPIVersion(), "constraints.gatekeeper.sh/v1beta1"))
		u.SetKind(cmp.Or(u.GetKind(), c.kind()))
		u.SetName(cmp.Or(u.GetName(), c.Name))
		out = append(out, u)
	}
	return out
}

// review is the review that a door makes of the case's request.
func (c *semanticCase) review(table semanticTable) *policy.Review {
	in := c.Request
	r := &policy.Review{
		UID: "semantics", Kind: schema.GroupVersionKind{Version: "v1", Kind: in.Kind},
		Name: in.Name, Namespace: in.Namespace, SubResource: in.SubResource,
		Operation: in.Operation, UserInfo: authenticationv1.UserInfo{Username: in.User},
		Object: in.Object, OldObject: in.OldObject, Source: in.Source, Point: in.Point,
	}
	if in.Object != nil {
		u := unstructured.Unstructured{Object: in.Object}
		r.Kind = u.GroupVersionKind()
		r.Name = cmp.Or(in.Name, u.GetName())
		r.Namespace = cmp.Or(in.Namespace, u.GetNamespace())
	}
	r.Resource = schema.GroupVersionResource{
		Group: r.Kind.Group, Version: r.Kind.Version, Resource: strings.ToLower(r.Kind.Kind) + "s",
	}
	if r.IsNamespace() { // The API server says so of requests for a Namespace.
		r.Namespace = r.Name
		return r
	}
	r.NamespaceObject = table.namespace(r.Namespace)
	return r
}

// namespace is a namespace of the table as the cluster shows it.
func (table semanticTable) namespace(name string) policy.Namespace {
	declared, known := table.Namespaces[name]
	if !known {
		return policy.Namespace{}
	}
	labels := map[string]any{"kubernetes.io/metadata.name": name}
	for k, v := range declared {
		labels[k] = v
	}
	return policy.Namespace{Known: true, Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": name, "labels": labels},
	}}
}

// outcome words a result as the table does.
func outcome(r *policy.Review, result policy.Result) semanticWant {
	var out semanticWant
	for _, v := range result.Violations {
		out.Violations = append(out.Violations, fmt.Sprintf("%s %s", actionOf(v.Constraint), policy.Line(v.Constraint, v.Message)))
		out.Details = append(out.Details, v.Details)
	}
	for _, f := range result.Faults {
		out.Faults = append(out.Faults, fmt.Sprintf("%s %s", f.Cause, policy.Line(f.Constraint, f.Err.Error())))
	}
	if r.Point != policy.PointWebhook {
		return out
	}
	d := policy.Decide(result)
	if d.Err != nil {
		out.Undecided = true
		return out
	}
	out.Warnings = d.Warnings
	if !d.Allowed {
		out.Denied = d.Message
	}
	return out
}

func actionOf(c policy.Constraint) string {
	if c.Action != policy.Scoped {
		return string(c.Action)
	}
	actions := make([]string, len(c.ScopedActions))
	for i, a := range c.ScopedActions {
		actions[i] = string(a)
	}
	return "scoped(" + strings.Join(actions, ",") + ")"
}
