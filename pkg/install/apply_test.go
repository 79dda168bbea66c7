package install_test

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
)

// only fails on every change that is not the wanted one.
func only(t *testing.T, changes []install.Change, want install.Action) {
	t.Helper()
	for _, c := range changes {
		if c.Action != want {
			t.Errorf("%s: got %s, want %s", c.Object, c.Action, want)
		}
	}
}

func TestApplyTwice(t *testing.T) {
	c := blank(t)
	plan := render(t, ownConfig(t))
	var progress []install.Change
	options := install.ApplyOptions{Discovery: server(t), Progress: func(c install.Change) { progress = append(progress, c) }}
	first := apply(t, c, options)
	only(t, first, install.Created)
	if len(first) != len(plan.Objects) || len(progress) != len(first) {
		t.Errorf("got %d changes and %d of progress, want %d", len(first), len(progress), len(plan.Objects))
	}
	only(t, apply(t, c, install.ApplyOptions{}), install.Unchanged)

	changes, err := render(t, slower(t)).Apply(t.Context(), c, install.ApplyOptions{})
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	for _, change := range changes {
		switch change.Object.Kind {
		case "ConfigMap", "Deployment", "ValidatingWebhookConfiguration":
			if change.Action != install.Configured {
				t.Errorf("%s: got %s after a change of the timeout, want %s", change.Object, change.Action, install.Configured)
			}
		default:
			only(t, []install.Change{change}, install.Unchanged)
		}
	}
}

// TestPodsAdmitted checks that the pods pass the admission of a real API
// server: the restricted Pod Security Standard, the quota of their priority
// class and their service accounts.
func TestPodsAdmitted(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	for name, replicas := range map[string]int32{"fusegate-webhook": 3, "fusegate-controller": 2} {
		d := &appsv1.Deployment{}
		await(t.Context(), t, name+" to have its pods", func(ctx context.Context) (bool, error) {
			err := c.Get(ctx, client.ObjectKey{Namespace: ownConfig(t).Namespace, Name: name}, d)
			return d.Status.Replicas == replicas, err
		})
	}
}

func TestKubectlApply(t *testing.T) {
	c := blank(t)
	text, err := render(t, ownConfig(t)).YAML()
	if err != nil {
		t.Fatal(err)
	}
	cp := plane(t)
	if _, stderr, err := cp.Kubectl(t.Context(), controlplane.Admin, string(text), "apply", "-f", "-"); err != nil || stderr != "" {
		t.Fatalf("kubectl apply: %v\n%s", err, stderr)
	}
	if !exists(t, c, webhookConfiguration()) {
		t.Error("the webhook configuration is not there")
	}
	// The two ways of installing must not fight over fields of equal value.
	only(t, apply(t, c, install.ApplyOptions{}), install.Unchanged)
}

func TestDryRun(t *testing.T) {
	c := blank(t)
	only(t, apply(t, c, install.ApplyOptions{DryRun: true}), install.Created)
	for _, u := range []*unstructured.Unstructured{templatesCRD(), webhookConfiguration(), named("v1", "Namespace", ownConfig(t).Namespace)} {
		if exists(t, c, u) {
			t.Errorf("%s %s was created in a dry run", u.GetKind(), u.GetName())
		}
	}
	apply(t, c, install.ApplyOptions{})
	only(t, apply(t, c, install.ApplyOptions{DryRun: true}), install.Unchanged)
}

// entry is the part of an entry that its owner applies.
func entry(name exempt.Entry, fields map[string]any) *unstructured.Unstructured {
	fields["name"] = string(name)
	u := webhookConfiguration()
	u.Object["webhooks"] = []any{fields}
	return u
}

// live is the webhook configuration as it is.
func live(t *testing.T, c client.Client) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	out := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: install.ConfigurationName}, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOthersFieldsSurvive checks that applying again leaves the fields of the
// armer, the certificate injector and the fuse as they are.
func TestOthersFieldsSurvive(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	serverSide(t, c, "fusegate-arm", entry(exempt.PolicyEntry, map[string]any{"rules": []any{map[string]any{
		"operations": []any{"CREATE"}, "apiGroups": []any{"example.com"}, "apiVersions": []any{"*"}, "resources": []any{"widgets"},
	}}}))
	serverSide(t, c, "fusegate-fuse", entry(exempt.PolicyEntry, map[string]any{"matchConditions": []any{map[string]any{
		"name": "fuse-open", "expression": "false",
	}}}))
	injected := live(t, c)
	for i := range injected.Webhooks {
		injected.Webhooks[i].ClientConfig.CABundle = fixedCA(t)
	}
	if err := c.Update(t.Context(), injected, client.FieldOwner("fusegate")); err != nil {
		t.Fatalf("injecting the certificate: %v", err)
	}
	before := live(t, c)

	only(t, apply(t, c, install.ApplyOptions{Force: true}), install.Unchanged)
	changed, err := render(t, slower(t)).Apply(t.Context(), c, install.ApplyOptions{})
	if err != nil {
		t.Fatalf("Apply of a changed configuration: %v", err)
	}
	if len(changed) == 0 {
		t.Fatal("nothing was applied")
	}
	after := live(t, c)
	for i, w := range after.Webhooks {
		was := before.Webhooks[i]
		if len(w.Rules) != len(was.Rules) || len(w.ClientConfig.CABundle) == 0 || len(w.MatchConditions) != len(was.MatchConditions) {
			t.Errorf("%s: fields of others were changed:\nbefore %+v\nafter  %+v", w.Name, was, w)
		}
		if *w.TimeoutSeconds != 2 {
			t.Errorf("%s: got timeout %d, want 2", w.Name, *w.TimeoutSeconds)
		}
	}
	if len(after.Webhooks[0].Rules) != 1 || !strings.Contains(conditionNames(after.Webhooks[0]), "fuse-open") {
		t.Errorf("got entry %+v, want one rule and the fuse's condition", after.Webhooks[0])
	}
}

func conditionNames(w admissionregistrationv1.ValidatingWebhook) string {
	var names []string
	for _, c := range w.MatchConditions {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// TestInstalledInterceptsNothing checks that nothing is intercepted until
// somebody arms it.
func TestInstalledInterceptsNothing(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	for _, w := range live(t, c).Webhooks {
		if len(w.Rules) > 0 || len(w.ClientConfig.CABundle) > 0 {
			t.Errorf("%s: got rules %v and caBundle %q, want none", w.Name, w.Rules, w.ClientConfig.CABundle)
		}
	}
}

func TestConflict(t *testing.T) {
	c := fresh(t)
	apply(t, c, install.ApplyOptions{})
	edited := live(t, c)
	fail := admissionregistrationv1.Fail
	edited.Webhooks[0].FailurePolicy = &fail
	if err := c.Update(t.Context(), edited, client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}

	_, err := render(t, ownConfig(t)).Apply(t.Context(), c, install.ApplyOptions{})
	conflict := asError[*install.ConflictError](t, err)
	if len(conflict.Conflicts) != 1 || conflict.Conflicts[0].Manager != "kubectl-edit" || !strings.Contains(conflict.Conflicts[0].Field, "failurePolicy") {
		t.Errorf("got conflicts %+v, want one about failurePolicy with kubectl-edit", conflict.Conflicts)
	}
	for _, part := range []string{"ValidatingWebhookConfiguration fusegate", "failurePolicy", `"kubectl-edit"`, "Force"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got error %q, want one with %q", err, part)
		}
	}

	apply(t, c, install.ApplyOptions{Force: true})
	for _, w := range live(t, c).Webhooks {
		checkEntry(t, w)
	}
}

// meddling is the real API server, except that it changes the entries of the
// webhook configuration, as one does that is old or that a provider has
// fitted with a controller of its own. There is no such server to be had here.
type meddling struct {
	client.Client
	edit func(entry map[string]any)
}

func (m meddling) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	if u, ok := o.(interface{ UnstructuredContent() map[string]any }); ok {
		entries, _ := u.UnstructuredContent()["webhooks"].([]any)
		for _, e := range entries {
			m.edit(e.(map[string]any))
		}
	}
	return m.Client.Apply(ctx, o, opts...)
}

// requirement makes a namespaceSelector have an additional requirement.
func requirement(entry map[string]any) {
	selector := entry["namespaceSelector"].(map[string]any)
	selector["matchExpressions"] = append(selector["matchExpressions"].([]any),
		map[string]any{"key": "control-plane", "operator": "DoesNotExist"})
}

func TestUnsafeIsRemoved(t *testing.T) {
	c := fresh(t)
	cases := map[string]struct {
		reason string
		edit   func(entry map[string]any)
		want   string // part of the problem; none if it is safe
	}{
		"Kept":            {"an API server that does as it is told", func(map[string]any) {}, ""},
		"Narrowed":        {"some providers exclude namespaces of their own", requirement, ""},
		"NoConditions":    {"old API servers drop the field", func(e map[string]any) { delete(e, "matchConditions") }, "matchConditions"},
		"LostCondition":   {"each condition counts", func(e map[string]any) { e["matchConditions"] = e["matchConditions"].([]any)[1:] }, "matchConditions"},
		"NoSelector":      {"the namespaces of the control plane must be excluded", func(e map[string]any) { delete(e, "namespaceSelector") }, "namespaceSelector"},
		"FailClosed":      {"it must never fail closed", func(e map[string]any) { e["failurePolicy"] = "Fail" }, "failurePolicy"},
		"DefaultTimeout":  {"the API server's default is 10 s", func(e map[string]any) { delete(e, "timeoutSeconds") }, "timeoutSeconds"},
		"HasSideEffects":  {"a dry run would be refused", func(e map[string]any) { e["sideEffects"] = "NoneOnDryRun" }, "sideEffects"},
		"EntryIsRenamed":  {"all entries are needed", func(e map[string]any) { e["name"] = "x." + e["name"].(string) }, "the entry is missing"},
		"LongerTimeout":   {"the timeout is what users pay", func(e map[string]any) { e["timeoutSeconds"] = int64(30) }, "timeoutSeconds"},
		"ShorterTimeout":  {"a shorter one only fails open earlier", func(e map[string]any) { e["timeoutSeconds"] = int64(1) }, ""},
		"OtherExpression": {"a condition of the same name is not the same", func(e map[string]any) { e["matchConditions"].([]any)[0].(map[string]any)["expression"] = "true" }, "matchConditions"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, ownConfig(t)).Apply(t.Context(), meddling{c, tc.edit}, install.ApplyOptions{})
			if there := exists(t, c, webhookConfiguration()); there != (tc.want == "") {
				t.Errorf("%s: the webhook configuration is there: %v", tc.reason, there)
			}
			if tc.want == "" {
				if err != nil {
					t.Errorf("%s: got error %v, want none", tc.reason, err)
				}
				return
			}
			unsafe := asError[*install.UnsafeError](t, err)
			if !unsafe.Removed || len(unsafe.Problems) != 3 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got error %v, want all entries to have a problem with %s", tc.reason, err, tc.want)
			}
		})
	}
}

// apiServer is an API server that says it has this version.
type apiServer string

func (s apiServer) ServerVersion() (*version.Info, error) {
	return &version.Info{GitVersion: string(s)}, nil
}

func TestServerVersion(t *testing.T) {
	c := fresh(t)
	for v, want := range map[string]string{
		"v1.29.15": "needs 1.30.0 or later", "v1.29.9-eks-1234": "needs 1.30.0 or later",
		"v1.30.0": "", "v1.30.4-gke.100": "", "v1.36.3+k3s1": "", "": "reading the version",
	} {
		_, err := render(t, ownConfig(t)).Apply(t.Context(), c, install.ApplyOptions{Discovery: apiServer(v), DryRun: true})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: got error %v, want none", v, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got error %v, want one with %q", v, err, want)
		}
	}
}

// TestApplyValidates checks that a plan is judged when it is applied, whatever
// happened since it was rendered.
func TestApplyValidates(t *testing.T) {
	c := fresh(t)
	expired := render(t, config.Config{WebhookURL: "https://192.0.2.1", CABundle: certificate(t, time.Now().Add(-time.Hour))})
	tampered := render(t, ownConfig(t))
	tampered.Config.TimeoutSeconds = 30
	for want, plan := range map[string]install.Plan{"expired": expired, "timeoutSeconds: 30": tampered} {
		changes, err := plan.Apply(t.Context(), c, install.ApplyOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || len(changes) > 0 {
			t.Errorf("got %v and error %v, want one with %q before anything is changed", changes, err, want)
		}
	}
}
