package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rawjson"
	"github.com/fusegate/fusegate/templates"
)

// library is the policy library with one constraint for each template.
type library struct {
	templates   []*engine.Template
	constraints []*unstructured.Unstructured
}

func loadLibrary() (library, error) {
	var l library
	names, err := fs.Glob(templates.FS, "*/template.yaml")
	if err != nil {
		return l, err
	}
	for _, name := range names {
		u, err := readObject(name)
		if err != nil {
			return l, err
		}
		t, err := engine.ParseTemplate(u)
		if err != nil {
			return l, err
		}
		c, err := readObject(strings.TrimSuffix(name, "template.yaml") + "samples/constraint.yaml")
		if err != nil {
			return l, err
		}
		l.templates, l.constraints = append(l.templates, t), append(l.constraints, c)
	}
	return l, nil
}

func readObject(name string) (*unstructured.Unstructured, error) {
	text, err := templates.FS.ReadFile(name)
	if err != nil {
		return nil, err
	}
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(data, &u.Object); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return u, nil
}

// subject is an object to be reviewed.
type subject struct {
	name string
	json []byte
}

// admission is the subject as an API server sends it when it is created.
func (s subject) admission() []byte {
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "bench", Name: "web", Namespace: "team-a", Operation: admissionv1.Create,
			Kind:     metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			UserInfo: authenticationv1.UserInfo{Username: "ann", Groups: []string{"system:authenticated"}},
			Object:   runtime.RawExtension{Raw: s.json},
		},
	})
	if err != nil {
		panic(err) // it holds nothing but JSON
	}
	return body
}

// decodeKubernetes reads JSON by Kubernetes' decoder, as Gatekeeper does.
func decodeKubernetes(body []byte) any {
	var doc any
	if err := utiljson.Unmarshal(body, &doc); err != nil {
		panic(err) // it was made by json.Marshal
	}
	return doc
}

// decodeOurs reads JSON as Fusegate's webhook does.
func decodeOurs(body []byte) any {
	if doc, ok := rawjson.Decode(body); ok {
		return doc
	}
	return decodeKubernetes(body)
}

// reviewOf is a decoded AdmissionReview as a review.
func reviewOf(doc any) *policy.Review {
	request := doc.(map[string]any)["request"].(map[string]any)
	return &policy.Review{
		UID: "bench", Name: "web", Namespace: "team-a", Operation: policy.Create, Point: policy.PointWebhook,
		Kind:            schema.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource:        schema.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object:          request["object"].(map[string]any),
		Request:         request,
		NamespaceObject: policy.Namespace{Known: true, Object: map[string]any{"metadata": map[string]any{"name": "team-a"}}},
	}
}

// review is the subject decoded.
func (s subject) review() *policy.Review { return reviewOf(decodeOurs(s.admission())) }
