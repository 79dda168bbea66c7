package intercept_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/policy"
)

type (
	hook  = admissionregistrationv1.ValidatingWebhook
	edit  = func(*hook)
	again = func(*intercept.Request)
)

const (
	here        = `webhooks[name="validation.fusegate.dev"].`
	inNamespace = here + "namespaceSelector"
	inObject    = here + "objectSelector"
	inRules     = here + "rules"
)

func inCondition(name string) string { return here + `matchConditions[name="` + name + `"]` }

// podRules are the rules of an entry that is armed for pods.
func podRules() []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{rule("CU", "", "pods")}
}

func simulate(t testing.TB, edits ...edit) *intercept.Simulator {
	t.Helper()
	h := live(exempt.Perimeter{}, podRules())
	for _, e := range edits {
		e(&h)
	}
	s, err := intercept.NewSimulator(h, intercept.Server{})
	if err != nil {
		t.Fatalf("NewSimulator: %v", err)
	}
	return s
}

func condition(name, expression string) edit {
	return func(h *hook) {
		h.MatchConditions = append(h.MatchConditions, admissionregistrationv1.MatchCondition{Name: name, Expression: expression})
	}
}

func requirement(key string, op metav1.LabelSelectorOperator, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: values}
}

func selectNamespaces(r metav1.LabelSelectorRequirement) edit {
	return func(h *hook) { h.NamespaceSelector.MatchExpressions = append(h.NamespaceSelector.MatchExpressions, r) }
}

func selectObjects(r metav1.LabelSelectorRequirement) edit {
	return func(h *hook) {
		h.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{r}}
	}
}

func setRules(rules ...admissionregistrationv1.RuleWithOperations) edit {
	return func(h *hook) { h.Rules = rules }
}

func scopedTo(scope admissionregistrationv1.ScopeType) edit {
	return func(h *hook) {
		for i := range h.Rules {
			h.Rules[i].Scope = &scope
		}
	}
}

// pod is the creation of a Pod by a tenant.
func pod(edits ...again) intercept.Request {
	r := intercept.Request{
		Kind:     schema.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"},
		Name:     "web", Namespace: "team-a", NamespaceLabels: map[string]string{"team": "a"},
		Operation: policy.Create, User: authenticationv1.UserInfo{Username: "alice", Groups: []string{"system:authenticated"}},
		Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web", "labels": map[string]any{"app": "web"}}},
	}
	for _, e := range edits {
		e(&r)
	}
	return r
}

func namespaceRequest(op policy.Operation, name string, labels map[string]any) intercept.Request {
	return pod(func(r *intercept.Request) {
		r.Kind.Kind, r.Resource.Resource, r.Name, r.Namespace, r.NamespaceLabels, r.Operation = "Namespace", "namespaces", name, "", nil, op
		r.Object = map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": labels}}
		if op == policy.Delete {
			r.Object, r.OldObject = nil, r.Object
		}
	})
}

func deletion(r *intercept.Request) {
	r.Operation, r.Object, r.OldObject = policy.Delete, nil, r.Object
}

func in(namespace string, labels map[string]string) again {
	return func(r *intercept.Request) { r.Namespace, r.NamespaceLabels = namespace, labels }
}

func exec(r *intercept.Request) {
	r.Kind.Kind, r.SubResource, r.Operation = "PodExecOptions", "exec", policy.Connect
	r.Object = map[string]any{"apiVersion": "v1", "kind": "PodExecOptions", "container": "web"}
}

// why is what a test compares of a Reason.
type why struct {
	cause     intercept.Cause
	field     string
	condition string
	text      string
}

func reasons(o []intercept.Reason) []why {
	var out []why
	for _, r := range o {
		out = append(out, why{r.Cause, r.Field, r.Condition, r.Text})
	}
	return out
}

// textContains compares a text with a part of it.
var textContains = cmp.Options{cmp.AllowUnexported(why{}), cmp.Comparer(func(a, b string) bool {
	return a == b || strings.HasPrefix(a, "~") && strings.Contains(b, a[1:]) || strings.HasPrefix(b, "~") && strings.Contains(a, b[1:])
})}

func TestJudge(t *testing.T) {
	everything := rule("CUDX", "*", "*/*")
	v2 := rule("CU", "example.com", "widgets")
	v2.APIVersions = []string{"v1"}
	widget := pod(func(r *intercept.Request) {
		r.Kind = schema.GroupVersionKind{Group: "example.com", Version: "v1beta1", Kind: "Widget"}
		r.Resource = schema.GroupVersionResource{Group: "example.com", Version: "v1beta1", Resource: "widgets"}
		r.Equivalents = []intercept.Equivalent{{
			Resource: schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"},
			Kind:     schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"},
		}}
	})
	exact := func(h *hook) { h.MatchPolicy = ptr.To(admissionregistrationv1.Exact) }
	fail := func(h *hook) { h.FailurePolicy = ptr.To(admissionregistrationv1.Fail) }
	cases := map[string]struct {
		reason  string
		entry   []edit
		request intercept.Request
		want    []why
	}{
		"Sent":        {"the entry as it is rendered", nil, pod(), nil},
		"Undefaulted": {"what is unset has the API server's defaults", []edit{func(h *hook) { *h = hook{Name: h.Name, Rules: h.Rules} }}, pod(), nil},
		"NoRules":     {"a disarmed entry", []edit{setRules()}, pod(), []why{{intercept.NoRule, inRules, "", "no rule matches CREATE of v1 pods"}}},
		"Operation":   {"an operation less", []edit{setRules(rule("U", "", "pods"))}, pod(), []why{{intercept.NoRule, inRules, "", "~rule 0 would but for its operations [\"UPDATE\"]"}}},
		"Scope":       {"a scope that excludes it", []edit{scopedTo("Cluster")}, pod(), []why{{intercept.NoRule, inRules, "", "~but for its scope \"Cluster\""}}},
		"SameScope":   {"a scope that includes it", []edit{scopedTo("Namespaced")}, pod(), nil},
		"Subresource": {"a subresource is a resource of its own", nil, pod(func(r *intercept.Request) { r.SubResource = "resize" }), []why{{intercept.NoRule, inRules, "", "~CREATE of v1 pods/resize"}}},
		"Version":     {"the rule's version, to which the request is not converted", []edit{setRules(v2), exact}, widget, []why{{intercept.NoRule, inRules, "", "~but for its apiVersions"}}},
		"Equivalent":  {"the rule's version, to which the request is converted", []edit{setRules(v2)}, widget, nil},
		"EquivalentKind": {
			"conditions see the kind of the rule and the resource of the request",
			[]edit{setRules(v2), condition("kind", `request.kind.version == "v1" && object.apiVersion == "example.com/v1"`), condition("resource", `request.resource.version == "v1"`)},
			widget, []why{{intercept.ConditionFalse, inCondition("resource"), "resource", "is false"}},
		},

		"System":      {"a namespace inside the perimeter", nil, pod(in("kube-system", nil)), []why{{intercept.NamespaceSelector, inNamespace, "", `~kubernetes.io/metadata.name notin`}}},
		"Managed":     {"a provider's requirement leaves tenants alone", []edit{selectNamespaces(requirement("control-plane", "DoesNotExist"))}, pod(), nil},
		"ManagedHit":  {"and takes those that carry the label", []edit{selectNamespaces(requirement("control-plane", "DoesNotExist"))}, pod(in("addon", map[string]string{"control-plane": "x"})), []why{{intercept.NamespaceSelector, inNamespace, "", `"!control-plane" does not hold for namespace "addon"`}}},
		"OwnLabel":    {"the API server's own label is there though unsaid", []edit{selectNamespaces(requirement("kubernetes.io/metadata.name", "In", "team-a"))}, pod(in("team-a", nil)), nil},
		"Cluster":     {"what is in no namespace is never deselected", []edit{setRules(everything), selectNamespaces(requirement("x", "Exists"))}, pod(in("", nil)), nil},
		"Namespace":   {"a Namespace goes by the labels that it gets", []edit{setRules(everything), selectNamespaces(requirement("x", "Exists"))}, namespaceRequest(policy.Create, "n", map[string]any{"x": "y"}), nil},
		"NamespaceNo": {"and by its own name", []edit{setRules(everything)}, namespaceRequest(policy.Create, "kube-system", nil), []why{{intercept.NamespaceSelector, inNamespace, "", "~notin"}}},
		"NamespaceDelete": {
			"a Namespace that goes is judged by the live labels", []edit{setRules(everything), selectNamespaces(requirement("x", "Exists"))},
			namespaceRequest(policy.Delete, "n", map[string]any{"x": "y"}), []why{{intercept.NamespaceSelector, inNamespace, "", `~"x" does not hold`}},
		},

		"Object":        {"an objectSelector", []edit{selectObjects(requirement("app", "NotIn", "web"))}, pod(), []why{{intercept.ObjectSelector, inObject, "", "~selects neither"}}},
		"ObjectSame":    {"that selects it", []edit{selectObjects(requirement("app", "In", "web"))}, pod(), nil},
		"ObjectOld":     {"the old object counts", []edit{setRules(everything), selectObjects(requirement("app", "Exists"))}, pod(deletion), nil},
		"ObjectDelete":  {"the new object of a DELETE is not there", []edit{setRules(everything), selectObjects(requirement("app", "Exists"))}, pod(func(r *intercept.Request) { r.Operation = policy.Delete }), []why{{intercept.ObjectSelector, inObject, "", "~"}}},
		"ObjectOptions": {"options have no labels, not even none", []edit{setRules(everything), selectObjects(requirement("app", "DoesNotExist"))}, pod(exec), []why{{intercept.ObjectSelector, inObject, "", "~"}}},

		"False":     {"a condition by somebody", []edit{condition("x", "false")}, pod(), []why{{intercept.ConditionFalse, inCondition("x"), "x", "is false"}}},
		"True":      {"one that holds", []edit{condition("x", `object.metadata.name == "web"`)}, pod(), nil},
		"Options":   {"options can be read", []edit{setRules(everything), condition("x", `object.container == "web"`)}, pod(exec), nil},
		"OldObject": {"an old object that is not there is null", []edit{condition("x", `oldObject == null && has(object.metadata)`)}, pod(), nil},
		"User":      {"one for a user", []edit{condition("x", `request.userInfo.username != "alice"`)}, pod(), []why{{intercept.ConditionFalse, inCondition("x"), "x", "is false"}}},
		"Error":     {"an error skips the webhook under Ignore", []edit{condition("x", "object.spec.a == 1")}, pod(), []why{{intercept.ConditionError, inCondition("x"), "x", "~no such key: spec"}}},
		"ErrorFail": {"and refuses the request under Fail", []edit{fail, condition("x", "object.spec.a == 1")}, pod(), []why{{intercept.ConditionError, inCondition("x"), "x", "~no such key: spec"}}},
		"FalseWins": {
			"one that is false decides, all that are are named", []edit{condition("e", "object.spec.a == 1"), condition("x", "false"), condition("y", "1 > 2")}, pod(),
			[]why{{intercept.ConditionFalse, inCondition("x"), "x", "is false"}, {intercept.ConditionFalse, inCondition("y"), "y", "is false"}, {intercept.ConditionError, inCondition("e"), "e", "~spec"}},
		},
		"Perimeter":  {"the perimeter's own conditions", nil, pod(func(r *intercept.Request) { r.User.Username = "system:apiserver" }), []why{{intercept.ConditionFalse, inCondition("not-system-user"), "not-system-user", "is false"}}},
		"Fuse":       {"the fuse", []edit{condition(intercept.FuseCondition, "false")}, pod(), []why{{intercept.FuseOpen, inCondition("fuse-open"), "fuse-open", "the fuse is open"}}},
		"NotTheFuse": {"a condition that only goes by its name", []edit{condition(intercept.FuseCondition, `request.userInfo.username != "alice"`)}, pod(), []why{{intercept.ConditionFalse, inCondition("fuse-open"), "fuse-open", "is false"}}},
		"FuseBeside": {
			"the fuse and somebody", []edit{condition("fuse-open", "false"), condition("x", "false")}, pod(),
			[]why{{intercept.FuseOpen, inCondition("fuse-open"), "fuse-open", "the fuse is open"}, {intercept.ConditionFalse, inCondition("x"), "x", "is false"}},
		},
		"Authorizer":          {"whom only the API server can ask", []edit{condition("x", `authorizer.group("").resource("pods").check("breakglass").allowed()`)}, pod(), []why{{intercept.Undecided, inCondition("x"), "x", "~authorizer"}}},
		"AuthorizerNot":       {"also if it would let the request through without him", []edit{condition("x", `!authorizer.group("").resource("pods").check("breakglass").allowed()`)}, pod(), []why{{intercept.Undecided, inCondition("x"), "x", "~authorizer"}}},
		"AuthorizerWord":      {"a word is not a question", []edit{condition("x", `request.userInfo.username != "authorizer"`)}, pod(), nil},
		"AuthorizerWordFalse": {"nor does it excuse", []edit{condition("x", `request.userInfo.username == "authorizer"`)}, pod(), []why{{intercept.ConditionFalse, inCondition("x"), "x", "is false"}}},
		"AuthorizerOther": {
			"another condition decides", []edit{condition("a", `authorizer.path("/x").check("get").allowed()`), condition("x", "false")}, pod(),
			[]why{{intercept.ConditionFalse, inCondition("x"), "x", "is false"}, {intercept.Undecided, inCondition("a"), "a", "~authorizer"}},
		},
		"Unknown": {"what this build cannot compile", []edit{condition("x", "later.version(1)")}, pod(), []why{{intercept.Undecided, inCondition("x"), "x", "~cannot compile"}}},
		"Budget":  {"what costs too much", []edit{condition("x", `[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))`)}, pod(), []why{{intercept.ConditionError, "~matchConditions", "~", "~cost"}}},

		"Webhooks": {"webhook configurations", []edit{setRules(everything)}, pod(func(r *intercept.Request) {
			r.Kind = schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"}
			r.Resource = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
		}), []why{{intercept.NeverSent, "", "", "~sent to no webhook"}}},
		"OrderNamespace": {"the namespaceSelector first", []edit{setRules(), condition("x", "false"), selectObjects(requirement("a", "Exists"))}, pod(in("kube-system", nil)), []why{{intercept.NamespaceSelector, inNamespace, "", "~"}}},
		"OrderObject":    {"then the objectSelector", []edit{setRules(), condition("x", "false"), selectObjects(requirement("a", "Exists"))}, pod(), []why{{intercept.ObjectSelector, inObject, "", "~"}}},
		"OrderRules":     {"then the rules", []edit{setRules(), condition("x", "false")}, pod(), []why{{intercept.NoRule, inRules, "", "~"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := simulate(t, tc.entry...)
			for range 2 { // What is remembered must be the same.
				got := s.Judge(t.Context(), tc.request)
				if got.Called != (len(tc.want) == 0) {
					t.Errorf("%s: Called = %t", tc.reason, got.Called)
				}
				if diff := cmp.Diff(tc.want, reasons(got.Reasons), textContains, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
				}
			}
		})
	}
}

// TestJudgeTellsRequestsApart makes sure that no request gets the answer that
// was remembered of another.
func TestJudgeTellsRequestsApart(t *testing.T) {
	s := simulate(t, setRules(rule("CUDX", "*", "*/*")), condition("x", `object.metadata.labels.app != "db" && request.userInfo.username != "bob"
		&& request.name != "n" && request.namespace != "t" && request.operation != "UPDATE" && !("g" in request.userInfo.groups)
		&& request.kind.kind != "K" && (!has(request.subResource) || request.subResource != "s")
		&& !(has(request.userInfo.extra) && "k" in request.userInfo.extra && "v" in request.userInfo.extra["k"]) && oldObject == null`))
	different := map[string]again{
		"Object": func(r *intercept.Request) {
			r.Object = map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": "db"}}}
		},
		"User":      func(r *intercept.Request) { r.User.Username = "bob" },
		"Group":     func(r *intercept.Request) { r.User.Groups = []string{"g"} },
		"Extra":     func(r *intercept.Request) { r.User.Extra = map[string]authenticationv1.ExtraValue{"k": {"v"}} },
		"Name":      func(r *intercept.Request) { r.Name = "n" },
		"Namespace": func(r *intercept.Request) { r.Namespace = "t" },
		"Operation": func(r *intercept.Request) { r.Operation = policy.Update },
		"Kind":      func(r *intercept.Request) { r.Kind.Kind = "K" },
		"Sub":       func(r *intercept.Request) { r.SubResource = "s" },
		"Old":       func(r *intercept.Request) { r.OldObject = map[string]any{} },
	}
	if o := s.Judge(t.Context(), pod()); !o.Called {
		t.Fatalf("the request that the others differ from is not sent: %v", o.Reasons)
	}
	for name, e := range different {
		if s.Judge(t.Context(), pod(e)).Called {
			t.Errorf("%s: a request that differs is taken for the first", name)
		}
	}
}

func TestJudgeOutOfTime(t *testing.T) {
	s := simulate(t, condition("x", "[1,2,3].all(a, [1,2,3].all(b, [1,2,3].all(c, [1,2,3].all(d, [1,2,3].all(e, a+b+c+d+e > 0)))))"))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if got := s.Judge(over, pod()); got.Called || got.Reasons[0].Cause != intercept.Undecided {
		t.Errorf("without time the outcome is %+v, want Undecided", got)
	}
	if got := s.Judge(t.Context(), pod()); !got.Called {
		t.Errorf("with time again the outcome is %+v: that there was none is remembered", got)
	}
}

func TestNewSimulatorRefusesMalformedSelectors(t *testing.T) {
	cases := map[string]struct {
		edit edit
		want string
	}{
		"Namespace": {selectNamespaces(requirement("a", "Near")), "parsing " + inNamespace},
		"Object":    {selectObjects(requirement("a b", "Exists")), "parsing " + inObject},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			h := live(exempt.Perimeter{}, podRules())
			tc.edit(&h)
			if _, err := intercept.NewSimulator(h, intercept.Server{}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("NewSimulator: %v, want an error with %q", err, tc.want)
			}
		})
	}
}
