package rego_test

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	stock "github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/opa/v1/storage"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// pods are what the policies of the differential test are tried on.
var pods = map[string]string{
	"plain": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ns","labels":{"app":"web"}},
		"spec":{"containers":[{"name":"a","image":"docker.io/a:1"},{"name":"b","image":"quay.io/b"}]}}`,
	"privileged": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"app":"web","team":"x","owner":"Bob!"}},
		"spec":{"hostNetwork":true,"containers":[{"name":"a","image":"evil.io/a:latest","securityContext":{"privileged":true},
		"resources":{"limits":{"cpu":"1500m","memory":"2Gi"}},"ports":[{"containerPort":80,"hostPort":80}]}],
		"initContainers":[{"name":"i","image":"docker.io/i@sha256:00","securityContext":{"privileged":true}}]}}`,
	"odd":   `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"","labels":null,"annotations":{"a/b":"\u00e9\u0000<&>"}},"spec":{"containers":[]}}`,
	"empty": `{}`,
	"wrong": `{"metadata":"text","spec":[1,2,{"containers":true}]}`,
}

// comparable are policies in the manner of those in use, each with parameters.
var comparables = map[string]struct {
	source     source
	parameters string
}{
	"RequiredLabels": {source{rego: `package k
violation[{"msg": msg, "details": {"missing_labels": missing}}] {
  provided := {l | input.review.object.metadata.labels[l]}
  required := {l | l := input.parameters.labels[_]}
  missing := required - provided
  count(missing) > 0
  msg := sprintf("you must provide labels: %v", [missing])
}`}, `{"labels":["app","team","owner"]}`},
	"LabelPattern": {source{rego: `package k
violation[{"msg": msg}] {
  value := input.review.object.metadata.labels[key]
  want := input.parameters.patterns[_]
  want.key == key
  not re_match(want.regex, value)
  msg := sprintf("label <%v: %v> does not satisfy %v", [key, value, want.regex])
}`}, `{"patterns":[{"key":"owner","regex":"^[a-z]+$"}]}`},
	"AllowedRepos": {source{rego: `package k
violation[{"msg": msg}] {
  container := input.review.object.spec[kind][_]
  {"containers", "initContainers"}[kind]
  satisfied := [good | repo := input.parameters.repos[_]; good := startswith(container.image, repo)]
  not any(satisfied)
  msg := sprintf("container <%v> has an invalid image repo <%v>, allowed repos are %v", [container.name, container.image, input.parameters.repos])
}`}, `{"repos":["docker.io/","quay.io/"]}`},
	"Privileged": {source{rego: `package k
import data.lib.exempt
violation[{"msg": msg, "details": {}}] {
  not exempt.is_exempt(input.review)
  c := containers[_]
  c.securityContext.privileged
  msg := sprintf("Privileged container is not allowed: %v, securityContext: %v", [c.name, c.securityContext])
}
containers[c] { c := input.review.object.spec.containers[_] }
containers[c] { c := input.review.object.spec.initContainers[_] }`, libs: []string{`package lib.exempt
is_exempt(review) { review.userInfo.groups[_] == "admins" }`}}, `{}`},
	"HostPorts": {source{rego: `package k
violation[{"msg": msg, "details": {"port": p}}] {
  p := input.review.object.spec.containers[_].ports[_].hostPort
  p < input.parameters.min
  msg := sprintf("port %v is below %d", [p, input.parameters.min])
}`}, `{"min":1024}`},
	"HostNetwork": {source{version: "v1", rego: `package k
violation contains {"msg": msg, "details": {}} if {
  input.review.object.spec.hostNetwork
  msg := "host network is not allowed"
}`}, `{}`},
	"Tags": {source{version: "v1", rego: `package k
violation contains {"msg": msg} if {
  some c in input.review.object.spec.containers
  some tag in input.parameters.tags
  endswith(c.image, concat("", [":", tag]))
  msg := sprintf("%s uses %s", [c.name, tag])
}
violation contains {"msg": msg} if {
  some c in input.review.object.spec.containers
  not contains(c.image, ":")
  msg := sprintf("%s has no tag", [c.name])
}`}, `{"tags":["latest"]}`},
	"Limits": {source{rego: `package k
violation[{"msg": msg}] {
  c := input.review.object.spec.containers[_]
  not c.resources.limits.cpu
  msg := sprintf("container <%v> has no cpu limit", [c.name])
}
violation[{"msg": msg}] {
  c := input.review.object.spec.containers[_]
  milli(c.resources.limits.cpu) > milli(input.parameters.cpu)
  msg := sprintf("container <%v> cpu limit <%v> is higher than the maximum allowed of <%v>", [c.name, c.resources.limits.cpu, input.parameters.cpu])
}
milli(x) = y { endswith(x, "m"); y := to_number(replace(x, "m", "")) }
milli(x) = y { re_match("^[0-9]+$", x); y := to_number(x) * 1000 }`}, `{"cpu":"1"}`},
	"UniqueNames": {source{rego: `package k
violation[{"msg": msg}] {
  other := data.inventory.namespace[ns][_][kind][name]
  kind == "Pod"
  name == input.review.object.metadata.name
  msg := sprintf("%v is taken in %v", [name, ns])
}`}, `{}`},
	"Namespaces": {source{rego: `package k
violation[{"msg": msg}] {
  ns := data.inventory.cluster.v1.Namespace[name]
  not ns.metadata.labels.owner
  msg := sprintf("namespace %v has no owner", [name])
}`}, `{}`},
	"Operation": {source{rego: `package k
violation[{"msg": msg, "details": input.parameters}] {
  input.review.operation == "CREATE"
  msg := sprintf("%v may not create %v in %v: %v", [input.review.userInfo.username, input.review.kind.kind, input.review.namespace, input.review.oldObject])
}`}, `{"nested":{"list":["a",{"b":null}]}}`},
	"Walk": {source{rego: `package k
violation[{"msg": msg, "details": {"path": p}}] {
  walk(input.review.object, [p, "docker.io/a:1"])
  msg := concat(".", [s | s := sprintf("%v", [p[_]])])
}`}, `{}`},
	"PartialObject": {source{rego: `package k
violation[k] = v { v := input.review.object.kind; k := {"msg": "key", "details": {"v": v}} }`}, `{}`},
	"Json": {source{rego: `package k
violation[{"msg": msg}] { msg := json.marshal(input.review.object.metadata) }`}, `{}`},
	"Undefined": {source{rego: `package k
violation[{"msg": msg}] { msg := input.review.object.no.such.field }
violation[{"msg": msg}] { x := to_number(input.review.object.kind); msg := sprintf("%v", [x]) }`}, `{}`},
}

// TestDifferential compares with the framework's own driver. The objects keep
// away from what differs on purpose: large integers and run-time errors.
func TestDifferential(t *testing.T) {
	fired := map[string]bool{}
	for name, p := range comparables {
		ours, theirs := drive(rego.New()), mustStock(t)
		c := constraint("K", "c", decode(t, p.parameters))
		for _, d := range []prepared{ours, theirs} {
			prepare(t, d, p.source, c)
		}
		for object, text := range pods {
			t.Run(name+"/"+object, func(t *testing.T) {
				r := policyReview(t, text)
				got := query(t.Context(), ours, r, c)
				response, err := theirs.Query(t.Context(), target, []*unstructured.Unstructured{c}, r.Input())
				if err != nil {
					t.Fatalf("their driver: %v", err)
				}
				var want []finding
				for _, res := range response.Results {
					want = append(want, finding{res.Msg, res.Metadata["details"]})
				}
				if len(got.faults) > 0 {
					t.Fatalf("fault: %v", got.faults[0].Err)
				}
				fired[name] = fired[name] || len(want) > 0
				if diff := gocmp.Diff(normal(t, want), normal(t, got.findings)); diff != "" {
					t.Errorf("(-theirs +ours):\n%s", diff)
				}
			})
		}
	}
	for name := range comparables {
		if !fired[name] && name != "Undefined" {
			t.Errorf("policy %s found nothing in any object: it compares nothing", name)
		}
	}
}

func mustStock(t *testing.T) *stock.Driver {
	t.Helper()
	d, err := stock.New()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// prepared is what a driver of the framework and ours have in common.
type prepared interface {
	AddTemplate(ctx context.Context, t *templates.ConstraintTemplate) error
	AddConstraint(ctx context.Context, c *unstructured.Unstructured) error
	AddData(ctx context.Context, target string, path storage.Path, data any) error
}

func prepare(t *testing.T, d prepared, s source, c *unstructured.Unstructured) {
	t.Helper()
	if err := d.AddTemplate(t.Context(), template("K", s)); err != nil {
		t.Fatalf("%T: %v", d, err)
	}
	if err := d.AddConstraint(t.Context(), c.DeepCopy()); err != nil {
		t.Fatalf("%T: %v", d, err)
	}
	for _, data := range []struct {
		path storage.Path
		text string
	}{
		{storage.Path{"namespace", "other", "v1", "Pod", "p"}, `{"metadata":{"name":"p"}}`},
		{storage.Path{"cluster", "v1", "Namespace", "a"}, `{"metadata":{"name":"a","labels":{"owner":"x"}}}`},
		{storage.Path{"cluster", "v1", "Namespace", "b"}, `{"metadata":{"name":"b"}}`},
	} {
		if err := d.AddData(t.Context(), target, data.path, decode(t, data.text)); err != nil {
			t.Fatalf("%T: %v", d, err)
		}
	}
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := utiljson.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func policyReview(t *testing.T, object string) *policy.Review {
	r := review(decode(t, object))
	r.Request = decode(t, `{"uid":"u","operation":"CREATE","namespace":"ns","kind":{"group":"","version":"v1","kind":"Pod"},
		"userInfo":{"username":"ann","groups":["dev"]}}`)
	return r
}

// normal orders findings and writes their details as JSON.
func normal(t *testing.T, in []finding) []finding {
	t.Helper()
	out := make([]finding, len(in))
	for i, f := range in {
		text, err := json.Marshal(f.Details)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = finding{f.Msg, string(text)}
	}
	slices.SortFunc(out, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.Msg, b.Msg), cmp.Compare(a.Details.(string), b.Details.(string)))
	})
	return out
}

// TestDifferences holds what differs on purpose.
func TestDifferences(t *testing.T) {
	cases := map[string]struct {
		reason, theirs, ours string
		source               source
	}{
		"Integers": {
			"integers are shown as written", "1e+06", "1000000", v0(`msg := sprintf("%v", [input.review.object.n])`),
		},
		"NestedLibrary": {
			"a library's name counts wherever it stands", "", "v", v0(`msg := [data.lib.x.v][0]`, "package lib.x\nv = \"v\""),
		},
		"RuntimeError": {
			"an error is a fault, no violation", "template:2: eval_conflict_error", "",
			source{rego: "package k\nv = x { input.review.object.l[x] }\nviolation[{\"msg\": v}] { true }"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			ours, theirs, c := drive(rego.New()), mustStock(t), constraint("K", "c", nil)
			prepare(t, ours, tc.source, c)
			prepare(t, theirs, tc.source, c)
			r := policyReview(t, `{"n":1000000,"l":{"a":true,"b":true}}`)
			response, err := theirs.Query(t.Context(), target, []*unstructured.Unstructured{c}, r.Input())
			if err != nil {
				t.Fatal(err)
			}
			said := ""
			for _, res := range response.Results {
				said += res.Msg
			}
			if !strings.HasPrefix(said, tc.theirs) || (said == "") != (tc.theirs == "") {
				t.Errorf("%s: their driver says %q, want %q", tc.reason, said, tc.theirs)
			}
			got := query(t.Context(), ours, r, c)
			var want []finding
			if tc.ours != "" {
				want = []finding{{tc.ours, none()}}
			}
			if diff := gocmp.Diff(want, got.findings); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
