package install_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

// webhooks are the entries of the plan's webhook configuration.
func webhooks(t testing.TB, plan install.Plan) []admissionregistrationv1.ValidatingWebhook {
	t.Helper()
	c := admissionregistrationv1.ValidatingWebhookConfiguration{}
	last := plan.Objects[len(plan.Objects)-1]
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(last.Object, &c); err != nil {
		t.Fatal(err)
	}
	return c.Webhooks
}

// checkSafe checks what must hold of every plan, whatever it was rendered from.
func checkSafe(t testing.TB, plan install.Plan) {
	t.Helper()
	for i, u := range plan.Objects {
		if strings.HasPrefix(u.GroupVersionKind().Group, "admissionregistration") && i != len(plan.Objects)-1 {
			t.Errorf("%s %s intercepts requests, which only the last object may", u.GetKind(), u.GetName())
		}
	}
	entries := webhooks(t, plan)
	var names []exempt.Entry
	for _, e := range entries {
		names = append(names, exempt.Entry(e.Name))
	}
	if diff := cmp.Diff([]exempt.Entry{exempt.PolicyEntry, exempt.EngineEntry, exempt.ProbeEntry}, names); diff != "" {
		t.Fatalf("entries (-want +got):\n%s", diff)
	}
	for _, w := range entries {
		checkEntry(t, w)
	}
	checkUnowned(t, plan)
}

func checkEntry(t testing.TB, w admissionregistrationv1.ValidatingWebhook) {
	t.Helper()
	if w.FailurePolicy == nil || *w.FailurePolicy != admissionregistrationv1.Ignore {
		t.Errorf("%s: failurePolicy is not Ignore", w.Name)
	}
	if w.TimeoutSeconds == nil || *w.TimeoutSeconds < 1 || *w.TimeoutSeconds > 3 {
		t.Errorf("%s: timeoutSeconds is not 1 to 3", w.Name)
	}
	if w.SideEffects == nil || *w.SideEffects != admissionregistrationv1.SideEffectClassNone {
		t.Errorf("%s: sideEffects is not None", w.Name)
	}
	if w.MatchPolicy == nil || *w.MatchPolicy != admissionregistrationv1.Equivalent {
		t.Errorf("%s: matchPolicy is not Equivalent", w.Name)
	}
	for _, ns := range []string{"kube-system", "kube-public", "kube-node-lease"} {
		if !excludes(w.NamespaceSelector, ns) {
			t.Errorf("%s: namespaceSelector does not exclude %s by its name", w.Name, ns)
		}
	}
	for _, least := range (exempt.Perimeter{}).MatchConditions(exempt.Entry(w.Name)) {
		if !slices.ContainsFunc(w.MatchConditions, func(c admissionregistrationv1.MatchCondition) bool { return c.Name == least.Name && c.Expression != "" }) {
			t.Errorf("%s: matchCondition %s is missing", w.Name, least.Name)
		}
	}
}

func excludes(s *metav1.LabelSelector, namespace string) bool {
	return s != nil && slices.ContainsFunc(s.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
		return r.Key == "kubernetes.io/metadata.name" && r.Operator == metav1.LabelSelectorOpNotIn && slices.Contains(r.Values, namespace)
	})
}

// checkUnowned checks that the plan does not mention what others own.
func checkUnowned(t testing.TB, plan install.Plan) {
	t.Helper()
	entries, _, err := unstructured.NestedSlice(plan.Objects[len(plan.Objects)-1].Object, "webhooks")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		entry := e.(map[string]any)
		clientConfig := entry["clientConfig"].(map[string]any)
		if _, ok := entry["rules"]; ok {
			t.Errorf("%v: mentions rules", entry["name"])
		}
		if _, ok := clientConfig["caBundle"]; ok && plan.Config.WebhookURL == "" {
			t.Errorf("%v: mentions the caBundle of a Service", entry["name"])
		}
	}
}

func TestSafe(t *testing.T) {
	for name, config := range configs(t) {
		t.Run(name, func(t *testing.T) { checkSafe(t, render(t, config)) })
	}
}

// TestOwnNamespaceExcluded checks that Fusegate never judges itself, wherever
// it runs.
func TestOwnNamespaceExcluded(t *testing.T) {
	for _, w := range webhooks(t, render(t, config.Config{Image: image, Namespace: "policy"})) {
		if !excludes(w.NamespaceSelector, "policy") {
			t.Errorf("%s: its own namespace is not excluded", w.Name)
		}
	}
}

// FuzzRender checks that no configuration which renders at all gives anything
// but a safe plan.
func FuzzRender(f *testing.F) {
	ca := fixedCA(f)
	f.Add("", image, "", int32(0), int32(0), "", "", "", "", "")
	f.Add("policy", "", "https://192.0.2.1", int32(3), int32(1), "kube-*\n*-system", "jane", "sre", "ci/deployer", "eks")
	f.Add("policy", image, "https://a.b/c", int32(30), int32(9), "*", "\"", "\\", "a/b", "")
	f.Fuzz(func(t *testing.T, namespace, image, url string, timeout, replicas int32, namespaces, users, groups, accounts, provider string) {
		c := config.Config{
			Namespace: namespace, Image: image, WebhookURL: url, TimeoutSeconds: timeout, WebhookReplicas: replicas,
			Exempt: exempt.Options{
				Namespaces: strings.Fields(namespaces), Users: strings.Split(users, "\n"), Groups: strings.Split(groups, "\n"),
				ServiceAccounts: strings.Fields(accounts), Provider: provider,
			},
		}
		if url != "" {
			c.CABundle = ca
		}
		c.Exempt.Users = slices.DeleteFunc(c.Exempt.Users, func(s string) bool { return s == "" })
		c.Exempt.Groups = slices.DeleteFunc(c.Exempt.Groups, func(s string) bool { return s == "" })
		plan, err := install.Render(c)
		if err != nil {
			return
		}
		checkSafe(t, plan)
		again, err := config.Parse([]byte(configText(plan)))
		if err != nil {
			t.Fatalf("the ConfigMap cannot be read: %v", err)
		}
		second, err := install.Render(again)
		if err != nil {
			t.Fatalf("the ConfigMap cannot be rendered: %v", err)
		}
		one, errOne := plan.YAML()
		two, errTwo := second.YAML()
		if errOne != nil || errTwo != nil || string(one) != string(two) {
			t.Errorf("the plan of the ConfigMap differs (%v, %v; -want +got):\n%s", errOne, errTwo, cmp.Diff(string(one), string(two)))
		}
	})
}
