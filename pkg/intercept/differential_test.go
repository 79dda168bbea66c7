package intercept_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

// sentinel is the entry that tells when the API server knows them all.
const sentinel = "sentinel"

// entries are what the API server and the simulator must agree about, by name.
func entries() map[string][]edit {
	everything := rule("CUDX", "*", "*/*")
	only := func(group, version, resource string) admissionregistrationv1.RuleWithOperations {
		r := rule("CUDX", group, resource)
		r.APIVersions = []string{version}
		return r
	}
	exact := func(h *hook) { h.MatchPolicy = ptr.To(admissionregistrationv1.Exact) }
	with := func(edits ...edit) []edit { return append([]edit{setRules(everything)}, edits...) }
	plain := func(h *hook) { h.NamespaceSelector, h.MatchConditions = nil, nil }
	return map[string][]edit{
		sentinel:           with(plain),
		"perimeter":        with(),
		"fuse":             with(condition("fuse-open", "false")),
		"no-rules":         {setRules()},
		"create-only":      {setRules(rule("C", "*", "*/*"))},
		"not-connect":      {setRules(rule("CUD", "*", "*/*"))},
		"no-subresources":  {setRules(rule("CUDX", "*", "*"))},
		"scale-only":       {setRules(rule("CUDX", "apps", "deployments/scale"))},
		"core-only":        {setRules(rule("CUDX", "", "*")), plain},
		"cluster-scope":    with(scopedTo(admissionregistrationv1.ClusterScope)),
		"namespaced-scope": with(scopedTo(admissionregistrationv1.NamespacedScope)),
		"version":          {setRules(only("autoscaling", "v2", "horizontalpodautoscalers")), plain},
		"version-exact":    {setRules(only("autoscaling", "v2", "horizontalpodautoscalers")), plain, exact},
		"version-kind":     {setRules(only("autoscaling", "v2", "horizontalpodautoscalers")), plain, condition("x", `request.kind.version == "v2" && request.resource.version == "v1" && object.apiVersion == "autoscaling/v2"`)},
		"ns-missing":       with(selectNamespaces(requirement("control-plane", "DoesNotExist"))),
		"ns-in":            with(selectNamespaces(requirement("team", "In", "a"))),
		"ns-name":          with(selectNamespaces(requirement("kubernetes.io/metadata.name", "NotIn", "team-a"))),
		"object-exists":    with(selectObjects(requirement("app", "Exists"))),
		"object-missing":   with(selectObjects(requirement("app", "DoesNotExist"))),
		"object-name":      with(selectObjects(requirement("kubernetes.io/metadata.name", "Exists"))),
		"user":             with(condition("x", `request.userInfo.username != "alice"`)),
		"group":            with(condition("x", `"`+tenantGroup+`" in request.userInfo.groups`)),
		"operation":        with(condition("x", `request.operation in ["UPDATE", "CONNECT"]`)),
		"named":            with(condition("x", `has(request.name) && request.name != ""`)),
		"nothing-old":      with(condition("x", "oldObject == null")),
		"nothing-new":      with(condition("x", "object == null")),
		"labels":           with(condition("x", `object.metadata.labels.app == "web"`)),
		"labels-or-none":   with(condition("x", `!has(object.metadata.labels) || !("app" in object.metadata.labels)`)),
		"subresource":      with(condition("x", "has(request.subResource)")),
		"namespace":        with(condition("x", `has(request.namespace) && request.namespace == "team-a"`)),
		"container":        with(condition("x", `has(object.container) && object.container == "web"`)),
		"error-and-false":  with(condition("x", "object.nowhere.a == 1"), condition("y", "false")),
		"error-and-true":   with(condition("x", "object.nowhere.a == 1"), condition("y", "true")),
		"namespace-object": with(condition("x", "namespaceObject == null")),
	}
}

// asked is a request, as it is sent and as it is simulated.
type asked struct{ request intercept.Request }

func meta(name, namespace string, labels map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range map[string]string{"name": name, "namespace": namespace} {
		if v != "" {
			out[k] = v
		}
	}
	if labels != nil {
		out["labels"] = labels
	}
	return out
}

func whole(apiVersion, kind string, metadata map[string]any, more map[string]any) map[string]any {
	out := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": metadata}
	maps.Copy(out, more)
	return out
}

var alice = authenticationv1.UserInfo{Username: "alice", Groups: []string{tenantGroup, "system:authenticated"}}

// ask makes a request for an object by its kind and the name of its resource.
func ask(op policy.Operation, resource string, object map[string]any) asked {
	resource, sub, _ := strings.Cut(resource, "/")
	u := unstructured.Unstructured{Object: object}
	gvk := u.GroupVersionKind()
	r := intercept.Request{
		Kind: gvk, Resource: gvk.GroupVersion().WithResource(resource), SubResource: sub,
		Name: u.GetName(), Namespace: u.GetNamespace(), Operation: op, User: alice, Object: object,
	}
	switch op {
	case policy.Update:
		r.OldObject = object
	case policy.Delete:
		r.Object, r.OldObject = nil, object
	}
	for _, n := range districts() {
		if n.Name == r.Namespace || resource == "namespaces" && n.Name == r.Name {
			r.NamespaceLabels = n.Labels
		}
	}
	return asked{request: r}
}

// districts are the namespaces of the differential test.
func districts() []intercept.Namespace {
	return []intercept.Namespace{
		{Name: "default"}, {Name: "kube-system"}, {Name: "team-a", Labels: map[string]string{"team": "a"}},
		{Name: "addon", Labels: map[string]string{"control-plane": "x"}},
	}
}

var (
	web  = map[string]any{"app": "web"}
	spec = map[string]any{"spec": map[string]any{
		"replicas": int64(0), "selector": map[string]any{"matchLabels": web},
		"template": map[string]any{"metadata": map[string]any{"labels": web}, "spec": podSpec["spec"]},
	}}
	podSpec = map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "web", "image": "web"}}}}
	hpaSpec = map[string]any{"spec": map[string]any{
		"maxReplicas": int64(2), "scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
	}}
)

// stored are the objects that requests change, connect to and delete.
func stored() map[string]map[string]any {
	return map[string]map[string]any{
		"configmaps":               whole("v1", "ConfigMap", meta("there", "team-a", web), nil),
		"pods":                     whole("v1", "Pod", meta("web", "team-a", web), podSpec),
		"deployments":              whole("apps/v1", "Deployment", meta("web", "team-a", web), spec),
		"horizontalpodautoscalers": whole("autoscaling/v1", "HorizontalPodAutoscaler", meta("there", "team-a", nil), hpaSpec),
		"clusterroles":             whole("rbac.authorization.k8s.io/v1", "ClusterRole", meta("there", "", web), map[string]any{"rules": []any{}}),
	}
}

// requestsToSend are requests of all sorts.
func requestsToSend() map[string]asked {
	there := stored()
	configMap := func(name, namespace string, labels map[string]any) asked {
		return ask(policy.Create, "configmaps", whole("v1", "ConfigMap", meta(name, namespace, labels), nil))
	}
	generated := configMap("", "team-a", nil)
	generated.request.Object["metadata"].(map[string]any)["generateName"] = "a-"
	generated.request.Name = "a-xxxxx"
	hpa := ask(policy.Create, "horizontalpodautoscalers", whole("autoscaling/v1", "HorizontalPodAutoscaler", meta("new", "team-a", nil), hpaSpec))
	hpa.request.Equivalents = []intercept.Equivalent{{
		Resource: schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"},
		Kind:     schema.GroupVersionKind{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
	}}
	scale := ask(policy.Update, "deployments/scale", whole("autoscaling/v1", "Scale", meta("web", "team-a", nil), map[string]any{"spec": map[string]any{"replicas": int64(0)}}))
	scale.request.Resource.Group = "apps"
	exec := ask(policy.Connect, "pods/exec", whole("v1", "PodExecOptions", meta("web", "team-a", nil), map[string]any{"container": "web"}))
	delete(exec.request.Object, "metadata")
	binding := ask(policy.Create, "pods/binding", whole("v1", "Binding", meta("web", "team-a", nil), map[string]any{"target": map[string]any{"kind": "Node", "name": "n"}}))
	namespace := func(op policy.Operation, name string, labels map[string]any) asked {
		return ask(op, "namespaces", whole("v1", "Namespace", meta(name, "", labels), nil))
	}
	return map[string]asked{
		"ConfigMap":       configMap("new", "team-a", nil),
		"Labelled":        configMap("new", "team-a", web),
		"InDefault":       configMap("new", "default", web),
		"InKubeSystem":    configMap("new", "kube-system", web),
		"InAddon":         configMap("new", "addon", web),
		"Generated":       generated,
		"Update":          ask(policy.Update, "configmaps", there["configmaps"]),
		"Delete":          ask(policy.Delete, "configmaps", there["configmaps"]),
		"Pod":             ask(policy.Create, "pods", whole("v1", "Pod", meta("new", "team-a", nil), podSpec)),
		"Exec":            exec,
		"Binding":         binding,
		"Deployment":      ask(policy.Create, "deployments", whole("apps/v1", "Deployment", meta("new", "team-a", web), spec)),
		"Scale":           scale,
		"HPA":             hpa,
		"ClusterRole":     ask(policy.Create, "clusterroles", whole("rbac.authorization.k8s.io/v1", "ClusterRole", meta("new", "", nil), map[string]any{"rules": []any{}})),
		"ClusterRoleGone": ask(policy.Delete, "clusterroles", there["clusterroles"]),
		"Namespace":       namespace(policy.Create, "team-new", map[string]any{"team": "a"}),
		"NamespaceSystem": namespace(policy.Create, "kube-node-lease-2", nil),
		"NamespaceUpdate": namespace(policy.Update, "team-a", map[string]any{"team": "b"}),
		"NamespaceDelete": namespace(policy.Delete, "addon", map[string]any{"control-plane": "x"}),
		"Lease":           ask(policy.Create, "leases", whole("coordination.k8s.io/v1", "Lease", meta("new", "team-a", nil), nil)),
		"TokenReview":     ask(policy.Create, "tokenreviews", whole("authentication.k8s.io/v1", "TokenReview", meta("", "", nil), map[string]any{"spec": map[string]any{"token": "x"}})),
		"AccessReview":    ask(policy.Create, "selfsubjectaccessreviews", whole("authorization.k8s.io/v1", "SelfSubjectAccessReview", meta("", "", nil), map[string]any{"spec": map[string]any{"nonResourceAttributes": map[string]any{"path": "/", "verb": "get"}}})),
		"Webhooks":        ask(policy.Create, "validatingwebhookconfigurations", whole("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", meta("new", "", nil), nil)),
	}
}

// TestAgreesWithTheAPIServer sends requests of all sorts to a real API server
// with entries of all sorts, and lets the simulator say the same of each.
func TestAgreesWithTheAPIServer(t *testing.T) {
	t.Parallel()
	c, b := newCell(t), newBackend(t)
	c.furnish(t)
	simulators := c.install(t, b)
	await(t, "the API server to know the entries", func() bool {
		c.send(t, requestsToSend()["ConfigMap"])
		return slices.Contains(b.take(), sentinel)
	})
	var sent, kept int
	for name, a := range requestsToSend() {
		c.send(t, a)
		reached := b.take()
		for entry, s := range simulators {
			got, want := s.Judge(t.Context(), a.request), slices.Contains(reached, entry)
			if got.Called != want {
				t.Errorf("%s at %s: Called = %t (%v), but that it was called is %t", name, entry, got.Called, got.Reasons, want)
			}
			if want {
				sent++
				continue
			}
			kept++
		}
	}
	t.Logf("%d entries: %d requests sent to them, %d not", len(simulators), sent, kept)
	if sent == 0 || kept == 0 {
		t.Errorf("%d sent and %d not show nothing", sent, kept)
	}
	c.checkSamples(t, b)
}

// checkSamples makes samples from what the API server serves, and sends those
// that are whole objects to the entry that the perimeter renders.
func (c cell) checkSamples(t *testing.T, b *backend) {
	t.Helper()
	_, served, err := c.admin.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	sampler := intercept.NewSampler(served, districts(), exempt.Perimeter{})
	for _, n := range needs(t, need{everyKind, "CREATE"}, need{pods, ""}, need{everyApp, "*"}, need{`kinds: [{apiGroups: [autoscaling], kinds: [HorizontalPodAutoscaler]}]`, ""}) {
		samples, coverage := sampler.Samples(n)
		if diff := cmp.Diff(intercept.Coverage{}, coverage, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: coverage (-want +got):\n%s", describe([]match.Need{n}), diff)
		}
		for _, r := range samples {
			if r.Operation != policy.Create || !slices.Contains([]string{"configmaps", "namespaces", "clusterroles"}, r.Resource.Resource) {
				continue
			}
			// That the name is taken shows only behind admission.
			if err := c.do(t.Context(), asked{r}, []string{metav1.DryRunAll}); err != nil && !apierrors.IsAlreadyExists(err) {
				t.Errorf("%s: %v", r, err)
			}
			if reached := b.take(); !slices.Contains(reached, "perimeter") {
				t.Errorf("%s reached only %q", r, reached)
			}
		}
	}
}

// furnish makes what is stored before the entries are there.
func (c cell) furnish(t *testing.T) {
	t.Helper()
	for _, n := range districts() {
		_, err := c.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	for resource, object := range stored() {
		a := ask(policy.Create, resource, object)
		if err := c.do(t.Context(), a, nil); err != nil {
			t.Fatalf("creating %s: %v", a.request, err)
		}
	}
}

// install makes one configuration of all entries, and their simulators from
// what is stored of it.
func (c cell) install(t *testing.T, b *backend) map[string]*intercept.Simulator {
	t.Helper()
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
	for name, edits := range entries() {
		h := live(exempt.Perimeter{}, nil)
		h.Name, h.ClientConfig, h.AdmissionReviewVersions = name+".fusegate.dev", b.clientConfig(name), []string{"v1"}
		h.SideEffects = ptr.To(admissionregistrationv1.SideEffectClassNone)
		for _, e := range edits {
			e(&h)
		}
		config.Webhooks = append(config.Webhooks, h)
	}
	slices.SortFunc(config.Webhooks, func(x, y hook) int { return strings.Compare(x.Name, y.Name) })
	config, err := c.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), config, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	version, err := c.admin.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*intercept.Simulator{}
	for _, h := range config.Webhooks {
		s, err := intercept.NewSimulator(h, intercept.ServerOf(*version))
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(h.Name, ".fusegate.dev")] = s
	}
	return out
}

// send makes the request as a dry run. That a CONNECT fails behind admission,
// for want of a kubelet, is as it should be.
func (c cell) send(t *testing.T, a asked) {
	t.Helper()
	if err := c.do(t.Context(), a, []string{metav1.DryRunAll}); err != nil && a.request.Operation != policy.Connect {
		t.Fatalf("%s: %v", a.request, err)
	}
}

func (c cell) do(ctx context.Context, a asked, dryRun []string) error {
	r := a.request
	client := dynamic.NewForConfigOrDie(c.as(r)).Resource(r.Resource)
	var at dynamic.ResourceInterface = client
	if r.Namespace != "" && r.Kind.Kind != "Namespace" {
		at = client.Namespace(r.Namespace)
	}
	var sub []string
	if r.SubResource != "" {
		sub = []string{r.SubResource}
	}
	var err error
	switch r.Operation {
	case policy.Create:
		_, err = at.Create(ctx, &unstructured.Unstructured{Object: r.Object}, metav1.CreateOptions{DryRun: dryRun}, sub...)
	case policy.Update:
		var patch []byte
		if patch, err = json.Marshal(r.Object); err != nil {
			return fmt.Errorf("encoding a patch: %w", err)
		}
		_, err = at.Patch(ctx, r.Name, "application/merge-patch+json", patch, metav1.PatchOptions{DryRun: dryRun}, sub...)
	case policy.Delete:
		err = at.Delete(ctx, r.Name, metav1.DeleteOptions{DryRun: dryRun}, sub...)
	case policy.Connect:
		err = kubernetes.NewForConfigOrDie(c.as(r)).CoreV1().RESTClient().Post().Namespace(r.Namespace).
			Resource(r.Resource.Resource).Name(r.Name).SubResource(r.SubResource).
			Param("command", "true").Param("container", "web").Do(ctx).Error()
	}
	return err
}
