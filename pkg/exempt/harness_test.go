package exempt_test

import (
	"maps"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/namespace"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

// entries are all of the webhook configuration.
var entries = []exempt.Entry{exempt.PolicyEntry, exempt.EngineEntry, exempt.ProbeEntry}

// apiServer decides as the API server does, and with its code, whether a
// request reaches one entry whose rules match everything.
type apiServer struct {
	hook       webhook.WebhookAccessor
	compiler   cel.ConditionCompiler
	namespaces namespace.Matcher
}

var compiler = cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))

func newAPIServer(p exempt.Perimeter, entry exempt.Entry) apiServer {
	// An error of a condition must not look like an exemption.
	fail := admissionregistrationv1.Fail
	return apiServer{
		hook: webhook.NewValidatingWebhookAccessor("uid", "fusegate", &admissionregistrationv1.ValidatingWebhook{
			Name:              string(entry),
			FailurePolicy:     &fail,
			NamespaceSelector: p.NamespaceSelector(),
			MatchConditions:   p.MatchConditions(entry),
		}),
		compiler:   compiler,
		namespaces: namespace.Matcher{NamespaceLister: anyNamespace{}},
	}
}

// reaches tells whether the webhook is called, and if not, whether the
// selector kept the request from it or the condition of that name.
func (s apiServer) reaches(t *testing.T, r *policy.Review) (called bool, by string) {
	t.Helper()
	attributes := attributesOf(r)
	matches, err := s.namespaces.MatchNamespaceSelector(s.hook, attributes)
	if err != nil {
		t.Fatalf("namespaceSelector on %s: %v", describe(r), err)
	}
	if !matches {
		return false, "selector"
	}
	versioned := &admission.VersionedAttributes{
		Attributes: attributes, VersionedKind: r.Kind,
		VersionedObject: admission.NewLazyObject(attributes.GetObject()), VersionedOldObject: admission.NewLazyObject(attributes.GetOldObject()),
	}
	got := s.hook.GetCompiledMatcher(s.compiler).Match(t.Context(), versioned, nil, nil)
	if got.Error != nil {
		t.Fatalf("matchConditions on %s: %v", describe(r), got.Error)
	}
	return got.Matches, got.FailedConditionName
}

func attributesOf(r *policy.Review) admission.Attributes {
	object, old := objectOf(r.Object), objectOf(r.OldObject)
	if r.Resource.Resource == "namespaces" && object == nil {
		object = namespaceNamed(r.Name)
	}
	var who user.Info
	if r.UserInfo.Username != "" || r.UserInfo.Groups != nil {
		who = &user.DefaultInfo{Name: r.UserInfo.Username, Groups: r.UserInfo.Groups}
	}
	return admission.NewAttributesRecord(object, old, r.Kind, r.Namespace, r.Name, r.Resource,
		r.SubResource, admission.Operation(r.Operation), nil, false, who)
}

// objectOf is nil when there is none.
func objectOf(content map[string]any) runtime.Object {
	if content == nil {
		return nil
	}
	return &unstructured.Unstructured{Object: content}
}

// changed are a request's objects, of which the new one has this metadata beside what
// the old one has; nil takes a field away.
func changed(r *policy.Review, metadata map[string]any) *policy.Review {
	had := map[string]any{
		"name": r.Name, "labels": map[string]any{"app": "web"}, "annotations": map[string]any{"note": "x"},
		"ownerReferences": []any{map[string]any{"kind": "ReplicaSet", "name": "web", "controller": true}},
	}
	has := maps.Clone(had)
	for k, v := range metadata {
		has[k] = v
		if v == nil {
			delete(has, k)
		}
	}
	if r.Operation != policy.Create {
		r.OldObject = map[string]any{"metadata": had}
	}
	r.Object = map[string]any{"metadata": has, "status": map[string]any{"message": "new"}}
	return r
}

// namespaceNamed is a Namespace as the API server defaults it
// (pkg/apis/core/v1/defaults.go, SetDefaults_Namespace).
func namespaceNamed(name string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if name != "" {
		ns.Labels = map[string]string{corev1.LabelMetadataName: name}
	}
	return ns
}

// anyNamespace lists the Namespaces of a cluster that has every namespace.
type anyNamespace struct{}

func (anyNamespace) List(labels.Selector) ([]*corev1.Namespace, error) { return nil, nil }

func (anyNamespace) Get(name string) (*corev1.Namespace, error) { return namespaceNamed(name), nil }

// by is a user as the API server authenticates it.
func by(name string, groups ...string) authenticationv1.UserInfo {
	return authenticationv1.UserInfo{Username: name, Groups: groups}
}

func account(ns, name string) authenticationv1.UserInfo {
	return by("system:serviceaccount:"+ns+":"+name,
		"system:serviceaccounts", "system:serviceaccounts:"+ns, "system:authenticated")
}

var (
	alice     = by("alice", "tenants", "system:authenticated")
	admin     = by("kubernetes-admin", "system:masters", "system:authenticated")
	apiserver = by("system:apiserver", "system:authenticated", "system:masters")
	scheduler = by("system:kube-scheduler", "system:authenticated")
	manager   = by("system:kube-controller-manager", "system:authenticated")
	node      = by("system:node:n1", "system:nodes", "system:authenticated")
	bootstrap = by("system:bootstrap:abcdef", "system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", "system:authenticated")
	own       = account("fusegate-system", "fusegate-controller")
)

// request makes a review of a request. What is its resource and where it is,
// as in kubectl: resource[.group][/subresource] [namespace/][name].
func request(op policy.Operation, who authenticationv1.UserInfo, what string) *policy.Review {
	kind, where, _ := strings.Cut(what, " ")
	kind, sub, _ := strings.Cut(kind, "/")
	gr := schema.ParseGroupResource(kind)
	ns, name, namespaced := strings.Cut(where, "/")
	if !namespaced {
		ns, name = "", where
	}
	if gr.Resource == "namespaces" {
		ns = name
	}
	return &policy.Review{
		Kind:        schema.GroupVersionKind{Group: gr.Group, Version: "v1", Kind: "Any"},
		Resource:    gr.WithVersion("v1"),
		SubResource: sub,
		Namespace:   ns,
		Name:        name,
		Operation:   op,
		UserInfo:    who,
	}
}

func describe(r *policy.Review) string {
	where := string(r.Operation) + " " + r.Resource.GroupResource().String()
	if r.SubResource != "" {
		where += "/" + r.SubResource
	}
	return where + " " + r.Namespace + "/" + r.Name + " by " + r.UserInfo.Username + " of " + strings.Join(r.UserInfo.Groups[:min(9, len(r.UserInfo.Groups))], ",")
}

// verdict asks the API server and Judge, which must agree.
func verdict(t *testing.T, p exempt.Perimeter, s apiServer, entry exempt.Entry, r *policy.Review) bool {
	t.Helper()
	called, kept := s.reaches(t, r)
	reason, exempted := p.JudgeAt(entry, r)
	if called == exempted {
		t.Fatalf("%s: the API server calls %s: %v (%s), but JudgeAt says exempt: %v (%s)",
			describe(r), entry, called, kept, exempted, reason)
	}
	if !called && kept != "selector" && !strings.HasSuffix(reason, "("+kept+")") {
		t.Fatalf("%s: kept from %s by %s, but JudgeAt gives the reason %q", describe(r), entry, kept, reason)
	}
	return called
}

func mustNew(t testing.TB, o exempt.Options) exempt.Perimeter {
	t.Helper()
	p, err := exempt.New(o)
	if err != nil {
		t.Fatalf("New(%+v): %v", o, err)
	}
	return p
}
