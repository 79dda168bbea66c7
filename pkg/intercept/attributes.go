package intercept

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
)

// attributes are the request as the API server's matchers see it.
func (r Request) attributes() admission.Attributes {
	object := r.runtimeObject(r.Object)
	if r.Operation == policy.Delete {
		object = nil
	}
	var who user.Info
	if r.User.Username != "" || r.User.Groups != nil {
		extra := map[string][]string{}
		for k, v := range r.User.Extra {
			extra[k] = v
		}
		who = &user.DefaultInfo{Name: r.User.Username, UID: r.User.UID, Groups: r.User.Groups, Extra: extra}
	}
	// The metrics that the API server's matcher counts in panic at labels that are not
	// UTF-8.
	return admission.NewAttributesRecord(object, r.runtimeObject(r.OldObject), r.Kind, r.namespace(), r.Name,
		r.Resource, r.SubResource, admission.Operation(printable.Line(string(r.Operation))), nil, false, who)
}

// runtimeObject is nil when there is none. What a CONNECT brings has no
// metadata that an objectSelector could read.
func (r Request) runtimeObject(content map[string]any) runtime.Object {
	switch {
	case content == nil:
		return nil
	case r.Operation == policy.Connect:
		return &options{content}
	case r.isNamespace():
		content = labelled(content)
	}
	return &unstructured.Unstructured{Object: content}
}

// labelled is a Namespace with the label that the API server gives it.
func labelled(object map[string]any) map[string]any {
	u := unstructured.Unstructured{Object: object}
	if name := u.GetName(); name == "" || u.GetLabels()[corev1.LabelMetadataName] == name {
		return object
	}
	metadata, _ := object["metadata"].(map[string]any)
	given, _ := metadata["labels"].(map[string]any)
	with := map[string]any{corev1.LabelMetadataName: u.GetName()}
	for k, v := range given {
		if k != corev1.LabelMetadataName {
			with[k] = v
		}
	}
	metadata, object = maps.Clone(metadata), maps.Clone(object)
	metadata["labels"], object["metadata"] = with, metadata
	return object
}

// versioned are the attributes as matchConditions see them, with the objects
// in the kind of the resource whose rule matched. A conversion between
// versions is approximated: only kind and apiVersion are changed.
func versioned(a admission.Attributes, kind schema.GroupVersionKind) *admission.VersionedAttributes {
	return &admission.VersionedAttributes{
		Attributes: a, VersionedKind: kind,
		VersionedObject:    admission.NewLazyObject(as(a.GetObject(), kind)),
		VersionedOldObject: admission.NewLazyObject(as(a.GetOldObject(), kind)),
	}
}

// as is the object in this kind, nil if there is none.
func as(object runtime.Object, kind schema.GroupVersionKind) runtime.Object {
	if o, ok := object.(*options); ok {
		return &unstructured.Unstructured{Object: o.content}
	}
	u, ok := object.(*unstructured.Unstructured)
	if !ok || u.GroupVersionKind() == kind {
		return object
	}
	content := maps.Clone(u.Object)
	content["apiVersion"], content["kind"] = kind.GroupVersion().String(), kind.Kind
	return &unstructured.Unstructured{Object: content}
}

// options are what a CONNECT brings: an object without metadata.
type options struct{ content map[string]any }

// GetObjectKind implements runtime.Object.
func (o *options) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object.
func (o *options) DeepCopyObject() runtime.Object {
	return &options{runtime.DeepCopyJSON(o.content)}
}

// place lists the one Namespace that a request is about.
type place struct{ namespace *corev1.Namespace }

func placeOf(r Request) place {
	name := r.namespace()
	return place{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: namespaceLabels(name, r.NamespaceLabels)}}}
}

// List implements the lister of Namespaces.
func (p place) List(labels.Selector) ([]*corev1.Namespace, error) {
	return []*corev1.Namespace{p.namespace}, nil
}

// Get implements the lister of Namespaces.
func (p place) Get(string) (*corev1.Namespace, error) { return p.namespace, nil }
