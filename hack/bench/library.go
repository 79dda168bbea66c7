package main

import (
	"fmt"
	"io/fs"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
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

// review decodes the subject anew, as every request is.
func (s subject) review() *policy.Review {
	var object map[string]any
	if err := utiljson.Unmarshal(s.json, &object); err != nil {
		panic(err) // it was made by json.Marshal
	}
	return &policy.Review{
		UID: "bench", Name: "web", Namespace: "team-a", Operation: policy.Create, Point: policy.PointWebhook,
		Kind:            schema.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource:        schema.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object:          object,
		NamespaceObject: policy.Namespace{Known: true, Object: map[string]any{"metadata": map[string]any{"name": "team-a"}}},
	}
}
