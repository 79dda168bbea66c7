package intercept

import (
	"maps"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Request is a request that the API server could receive. All maps are decoded
// JSON, as in a policy.Review, and are never modified.
type Request struct {
	// Kind is what the request carries, Resource what it addresses.
	Kind        schema.GroupVersionKind
	Resource    schema.GroupVersionResource
	SubResource string
	// Name is what the object ends up with: where generateName is used, the
	// API server shows validating webhooks the name that it generated
	// (k8s.io/apiserver pkg/registry/rest/create.go,
	// AdmissionToValidateObjectFunc).
	Name string
	// Namespace is empty for cluster-scoped objects. For a Namespace the API
	// server takes its name.
	Namespace string
	// NamespaceLabels are the labels of the live Namespace. The API server's
	// own, kubernetes.io/metadata.name, is added where it is missing.
	NamespaceLabels map[string]string
	Operation       policy.Operation
	User            authenticationv1.UserInfo
	// Object is the new object, or the options of a CONNECT; ignored for
	// DELETE, to which the API server gives OldObject alone.
	Object, OldObject map[string]any
	// Equivalents are the other resources under which the same object is
	// served; matchPolicy Equivalent matches their rules too.
	Equivalents []Equivalent
}

// Equivalent is another resource that serves the same object, and the kind
// that it serves it as.
type Equivalent struct {
	Resource schema.GroupVersionResource
	Kind     schema.GroupVersionKind
}

// Review is the request as the webhook would put it before the policies. It
// shares the objects with r.
func (r Request) Review() *policy.Review {
	out := &policy.Review{
		Kind: r.Kind, Resource: r.Resource, SubResource: r.SubResource,
		Name: r.Name, Namespace: r.namespace(), Operation: r.Operation, UserInfo: r.User,
		Object: r.Object, OldObject: r.OldObject, Point: policy.PointWebhook,
	}
	if r.Operation == policy.Delete {
		out.Object = r.OldObject
	}
	if name := r.namespace(); name != "" {
		out.NamespaceObject = policy.Namespace{Known: true, Object: namespaceObject(name, r.NamespaceLabels)}
	}
	return out
}

// String names the request: its operation, resource, place and user.
func (r Request) String() string {
	where := string(r.Operation) + " " + r.Resource.GroupVersion().String() + " " + r.Resource.Resource
	if r.SubResource != "" {
		where += "/" + r.SubResource
	}
	if r.Namespace != "" {
		where += " in namespace " + r.Namespace
	}
	return where + " by " + r.User.Username
}

func (r Request) isNamespace() bool {
	return r.Resource.Group == "" && r.Resource.Resource == "namespaces"
}

// namespace is what the API server takes for the request's namespace
// (k8s.io/apiserver pkg/endpoints/handlers/create.go and
// pkg/endpoints/request/requestinfo.go).
func (r Request) namespace() string {
	if r.isNamespace() && r.Namespace == "" {
		return r.Name
	}
	return r.Namespace
}

// namespaceObject is a Namespace with what matchers read of it.
func namespaceObject(name string, labels map[string]string) map[string]any {
	content := map[string]any{}
	for k, v := range namespaceLabels(name, labels) {
		content[k] = v
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": name, "labels": content},
	}
}

// namespaceLabels adds the label that the API server gives every Namespace
// (Kubernetes pkg/apis/core/v1/defaults.go, SetDefaults_Namespace).
func namespaceLabels(name string, labels map[string]string) map[string]string {
	if labels[corev1.LabelMetadataName] == name || name == "" {
		return labels
	}
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[corev1.LabelMetadataName] = name
	return out
}
