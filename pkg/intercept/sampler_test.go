package intercept_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/policy"
)

// town are the namespaces of a small cluster.
func town() []intercept.Namespace {
	return []intercept.Namespace{
		{Name: "kube-system"}, {Name: "kube-public"}, {Name: "fusegate-system", Labels: map[string]string{"control-plane": "x"}},
		{Name: "default"}, {Name: "team-a", Labels: map[string]string{"team": "a"}},
		{Name: "team-b", Labels: map[string]string{"team": "b", "control-plane": "y"}},
	}
}

// brief is a sample in one line: what, where, and who if not the tenant.
func brief(r intercept.Request) string {
	out := strings.TrimSuffix(r.String(), " by fusegate-sample-tenant")
	return strings.TrimSpace(strings.ReplaceAll(out, "fusegate-sample-", ""))
}

func TestSamples(t *testing.T) {
	const (
		leases  = `kinds: [{apiGroups: [coordination.k8s.io], kinds: [Lease]}]`
		selfish = "\nnamespaces: [kube-system, kube-public]"
		nowhere = "\nnamespaces: [later]"
		roles   = `kinds: [{apiGroups: ["*"], kinds: [ClusterRole]}]`
		spaces  = `kinds: [{apiGroups: [""], kinds: [Namespace]}]`
	)
	cases := map[string]struct {
		reason string
		need   need
		// want are samples that must be among them, never that must not be.
		want, never []string
		none        bool
		coverage    intercept.Coverage
	}{
		"Pod": {
			"a Pod in every tenant's namespace, by users of all sorts, and through its subresources",
			need{pods, ""},
			[]string{
				"CREATE v1 pods in namespace default", "CREATE v1 pods in namespace team-a", "CREATE v1 pods in namespace team-b",
				"UPDATE v1 pods in namespace team-a", "UPDATE v1 pods/resize in namespace default",
				"CREATE v1 pods in namespace default by admin", "CREATE v1 pods in namespace default by system:serviceaccount:kube-system:replicaset-controller",
			},
			[]string{"kube-system by", "namespace kube", "namespace fusegate-system", "pods/status", "DELETE"}, false, intercept.Coverage{},
		},
		"Deployment":  {"controllers create no Deployments", need{deployments, ""}, []string{"CREATE apps/v1 deployments in namespace default by admin"}, []string{"replicaset-controller"}, false, intercept.Coverage{}},
		"Delete":      {"only what it asks for", need{deployments, "DELETE"}, []string{"DELETE apps/v1 deployments in namespace team-a"}, []string{"CREATE"}, false, intercept.Coverage{}},
		"Exec":        {"options", need{`kinds: [{apiGroups: [""], kinds: [PodExecOptions]}]`, "CONNECT"}, []string{"CONNECT v1 pods/exec in namespace team-a"}, nil, false, intercept.Coverage{}},
		"ClusterRole": {"in no namespace, even where some are excluded", need{roles + "\nexcludedNamespaces: [team-a]", ""}, []string{"CREATE rbac.authorization.k8s.io/v1 clusterroles"}, []string{"namespace"}, false, intercept.Coverage{}},
		"Versions":    {"every version of a kind", need{`kinds: [{kinds: [Widget]}]`, ""}, []string{"CREATE example.com/v1 widgets in namespace team-a", "UPDATE example.com/v1beta1 widgets in namespace default"}, []string{"widgets/"}, false, intercept.Coverage{}},
		"Everything":  {"some kinds stand for all, of both scopes", need{everyKind, ""}, []string{"CREATE v1 configmaps in namespace default", "CREATE apps/v1 deployments in namespace team-b", "CREATE rbac.authorization.k8s.io/v1 clusterroles", "CREATE v1 namespaces in namespace team-a"}, []string{"nodes", "leases"}, false, intercept.Coverage{}},
		"EveryApp":    {"the kinds of a group", need{everyApp, ""}, []string{"CREATE apps/v1 deployments in namespace team-a", "UPDATE apps/v1 statefulsets in namespace default"}, []string{"v1 pods"}, false, intercept.Coverage{}},

		"Namespaces":    {"those that exist, and those to come", need{deployments + "\nnamespaces: [team-*, later]", ""}, []string{"CREATE apps/v1 deployments in namespace team-a", "CREATE apps/v1 deployments in namespace team-b", "CREATE apps/v1 deployments in namespace later"}, []string{"default"}, false, intercept.Coverage{}},
		"Excluded":      {"not those that are excluded", need{deployments + "\nexcludedNamespaces: [team-*]", ""}, []string{"CREATE apps/v1 deployments in namespace default"}, []string{"team"}, false, intercept.Coverage{}},
		"Selected":      {"those with the labels", need{deployments + "\nnamespaceSelector: {matchLabels: {team: b}}", ""}, []string{"CREATE apps/v1 deployments in namespace team-b"}, []string{"team-a", "default"}, false, intercept.Coverage{}},
		"SelectedNew":   {"none has the labels yet", need{deployments + "\nnamespaceSelector: {matchLabels: {team: c}}", ""}, []string{"CREATE apps/v1 deployments in namespace fusegate-sample"}, []string{"team-a", "default"}, false, intercept.Coverage{}},
		"SelectedName":  {"selected by name", need{deployments + "\nnamespaceSelector: {matchLabels: {kubernetes.io/metadata.name: later}}", ""}, []string{"CREATE apps/v1 deployments in namespace later"}, []string{"team-a", "default"}, false, intercept.Coverage{}},
		"Partly":        {"the perimeter's are left out", need{deployments + "\nnamespaces: [kube-system, team-a]", ""}, []string{"CREATE apps/v1 deployments in namespace team-a"}, []string{"namespace kube"}, false, intercept.Coverage{}},
		"Namespace":     {"a Namespace goes by its own name and labels", need{spaces + "\nnamespaces: [team-*]\nnamespaceSelector: {matchExpressions: [{key: team, operator: In, values: [a]}]}", ""}, []string{"CREATE v1 namespaces in namespace team-a"}, []string{"default", "team-b"}, false, intercept.Coverage{}},
		"NamespaceName": {"and must have the name", need{spaces + "\nname: new-*", ""}, []string{"UPDATE v1 namespaces in namespace new-fusegate-sample"}, []string{"team-a"}, false, intercept.Coverage{}},

		"Exempt":       {"all its namespaces are inside the perimeter", need{deployments + selfish, ""}, nil, nil, true, intercept.Coverage{Exempt: []string{"kube-public", "kube-system"}}},
		"ExemptNamed":  {"though one does not exist", need{deployments + "\nnamespaces: [kube-node-lease]", ""}, nil, nil, true, intercept.Coverage{Exempt: []string{"kube-node-lease"}}},
		"ExemptPartly": {"what is in no namespace is not", need{"kinds: [{apiGroups: ['*'], kinds: [ClusterRole, Deployment]}]" + selfish, ""}, []string{"CREATE rbac.authorization.k8s.io/v1 clusterroles"}, []string{"deployments"}, false, intercept.Coverage{Exempt: []string{"kube-public", "kube-system"}}},
		"ExemptSoFar":  {"those that exist are; one that may come is not", need{deployments + "\nnamespaces: [kube-*]", ""}, []string{"CREATE apps/v1 deployments in namespace kube-fusegate-sample"}, []string{"kube-system"}, false, intercept.Coverage{Exempt: []string{"kube-public", "kube-system"}}},
		"Later":        {"a namespace that does not exist yet", need{deployments + nowhere, ""}, []string{"CREATE apps/v1 deployments in namespace later"}, []string{"default"}, false, intercept.Coverage{}},

		"NotServed":       {"a kind that is not there", need{`kinds: [{apiGroups: [x.io], kinds: [Foo]}]`, ""}, nil, nil, true, intercept.Coverage{NotServed: []string{"Foo.x.io"}}},
		"NotServedPartly": {"beside one that is", need{`kinds: [{apiGroups: [apps], kinds: [Foo, Deployment]}]`, ""}, []string{"CREATE apps/v1 deployments in namespace team-a"}, nil, false, intercept.Coverage{NotServed: []string{"Foo.apps"}}},
		"Never":           {"a kind outside policy", need{leases, "*"}, nil, nil, true, intercept.Coverage{NotInterceptable: []string{"Lease.coordination.k8s.io"}}},
		"NeverGroup":      {"a group of them", need{`kinds: [{apiGroups: [authorization.k8s.io], kinds: ["*"]}]`, ""}, nil, nil, true, intercept.Coverage{NotInterceptable: []string{"SubjectAccessReview.authorization.k8s.io"}}},
		"NeverPartly":     {"beside one that is not", need{`kinds: [{apiGroups: [""], kinds: [Node, Pod, ComponentStatus]}]`, ""}, []string{"CREATE v1 pods in namespace team-a"}, []string{"nodes"}, false, intercept.Coverage{NotInterceptable: []string{"ComponentStatus", "Node"}}},
		"NeverSent":       {"webhook configurations", need{`kinds: [{apiGroups: ["*"], kinds: [ValidatingWebhookConfiguration]}]`, ""}, nil, nil, true, intercept.Coverage{NotInterceptable: []string{"ValidatingWebhookConfiguration.admissionregistration.k8s.io"}}},
		"Eviction":        {"a kind of a subresource that is left alone", need{`kinds: [{apiGroups: [policy], kinds: [Eviction]}]`, "*"}, nil, nil, true, intercept.Coverage{NotInterceptable: []string{"Eviction.policy"}}},
		"NoConnect":       {"an operation that never comes", need{pods, "CONNECT"}, nil, nil, true, intercept.Coverage{NotInterceptable: []string{"Pod"}}},

		"Labels":     {"labels that nothing has", need{pods + "\nlabelSelector: {matchExpressions: [{key: a, operator: Exists}, {key: a, operator: DoesNotExist}]}", ""}, nil, nil, true, intercept.Coverage{Unknown: []string{`spec.match.labelSelector: no labels meet "a,!a"`}}},
		"Generated":  {"what no request brings", need{pods + "\nsource: Generated", ""}, nil, nil, true, intercept.Coverage{Unknown: []string{"spec.match.source is Generated: no request brings such an object, only an expansion makes it"}}},
		"NoPlace":    {"no namespace is selected", need{deployments + "\nnamespaces: [a]\nexcludedNamespaces: ['*']", ""}, nil, nil, true, intercept.Coverage{Unknown: []string{"no namespace could be made up that spec.match.namespaces, excludedNamespaces and namespaceSelector select"}}},
		"WrongScope": {"nothing is of the scope", need{pods + "\nscope: Cluster", ""}, nil, nil, true, intercept.Coverage{Unknown: []string{"no request could be made up that the match block selects and the perimeter does not exempt for Pod"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, coverage := intercept.NewSampler(cluster(), town(), exempt.Perimeter{}).Samples(needs(t, tc.need)[0])
			var lines []string
			for _, r := range got {
				lines = append(lines, brief(r))
			}
			if tc.none != (len(lines) == 0) {
				t.Errorf("%s: samples: %q", tc.reason, lines)
			}
			for _, w := range tc.want {
				if !slices.Contains(lines, w) {
					t.Errorf("%s: no sample %q in\n%s", tc.reason, w, strings.Join(lines, "\n"))
				}
			}
			for _, n := range tc.never {
				if i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, n) }); i >= 0 {
					t.Errorf("%s: unwanted sample %q", tc.reason, lines[i])
				}
			}
			if diff := cmp.Diff(tc.coverage, coverage, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: coverage (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestSampleObjects looks at the objects of samples.
func TestSampleObjects(t *testing.T) {
	const block = pods + "\nname: web-*\nlabelSelector: {matchExpressions: [{key: a, operator: In, values: [x, z]}, {key: a, operator: NotIn, values: [x]}, {key: b, operator: Exists}, {key: c, operator: DoesNotExist}]}"
	got, coverage := intercept.NewSampler(cluster(), town(), exempt.Perimeter{}).Samples(needs(t, need{block, "* CREATE"})[0])
	if diff := cmp.Diff(intercept.Coverage{}, coverage, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("coverage (-want +got):\n%s", diff)
	}
	for _, r := range got {
		want := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{
			"name": "web-fusegate-sample", "namespace": r.Namespace, "labels": map[string]any{"a": "z", "b": "fusegate-sample"},
		}}
		before, after := want, want
		switch r.Operation {
		case policy.Create:
			before = nil
		case policy.Delete:
			after = nil
		}
		if diff := cmp.Diff([]map[string]any{before, after}, []map[string]any{r.OldObject, r.Object}); diff != "" {
			t.Errorf("%s: old and new object (-want +got):\n%s", r, diff)
		}
	}
}

// TestSamplesOfAWiderPerimeter makes sure that what options exempt is no
// sample.
func TestSamplesOfAWiderPerimeter(t *testing.T) {
	p, err := exempt.New(exempt.Options{Namespaces: []string{"team-*", "default"}, Groups: []string{"system:serviceaccounts:fusegate-sample"}})
	if err != nil {
		t.Fatal(err)
	}
	got, coverage := intercept.NewSampler(cluster(), town(), p).Samples(needs(t, need{deployments, ""})[0])
	for _, r := range got {
		if r.Namespace != "fusegate-sample" || strings.HasPrefix(r.User.Username, "system:") {
			t.Errorf("sample %s is exempt", r)
		}
	}
	if len(got) == 0 || !slices.Contains(coverage.Exempt, "team-a") {
		t.Errorf("%d samples and coverage %+v; want a namespace that may come, and all that exist as exempt", len(got), coverage)
	}
}
