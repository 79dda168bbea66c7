package main

import (
	"encoding/json"
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

// pods are the subjects: a Pod of three containers that breaks many rules, one
// that breaks few, and the first with as many environment variables and
// annotations as make it 11 KB.
func pods() []subject {
	careless := pod(3, func(c map[string]any) { c["securityContext"] = map[string]any{"privileged": true} })
	large := pod(3, func(c map[string]any) {
		c["securityContext"] = map[string]any{"privileged": true}
		var env []any
		for i := range 40 {
			env = append(env, map[string]any{"name": fmt.Sprintf("VARIABLE_%02d", i), "value": strings.Repeat("v", 40)})
		}
		c["env"] = env
	})
	large["metadata"].(map[string]any)["annotations"] = map[string]any{"example.com/notes": strings.Repeat("n", 1200)}
	return []subject{
		{"three containers", encode(careless)},
		{"clean", encode(cleanPod())},
		{"large", encode(large)},
	}
}

func encode(object map[string]any) []byte {
	data, err := json.Marshal(object)
	if err != nil {
		panic(err) // it holds nothing but JSON
	}
	return data
}

func pod(containers int, change func(map[string]any)) map[string]any {
	var cs []any
	for i := range containers {
		c := map[string]any{
			"name": fmt.Sprintf("c%d", i), "image": fmt.Sprintf("docker.io/library/app%d:latest", i),
			"ports":     []any{map[string]any{"containerPort": 8080 + i}},
			"resources": map[string]any{"limits": map[string]any{"cpu": "4", "memory": "8Gi"}},
		}
		change(c)
		cs = append(cs, c)
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "web", "namespace": "team-a", "labels": map[string]any{"app": "web"}},
		"spec":     map[string]any{"containers": cs, "hostNetwork": true},
	}
}

// cleanPod keeps the rules of the library's samples, as far as a Pod can.
func cleanPod() map[string]any {
	digest := "@sha256:" + strings.Repeat("0123456789abcdef", 4)
	p := pod(1, func(c map[string]any) {
		probe := map[string]any{"httpGet": map[string]any{"path": "/", "port": 8080}}
		c["image"] = "registry.example.com/web:1.2" + digest
		c["livenessProbe"], c["readinessProbe"] = probe, probe
		c["resources"] = map[string]any{
			"limits":   map[string]any{"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
			"requests": map[string]any{"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
		}
		c["securityContext"] = map[string]any{
			"privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"runAsNonRoot": true, "runAsUser": 10000, "runAsGroup": 10000,
			"capabilities":   map[string]any{"drop": []any{"ALL"}},
			"seccompProfile": map[string]any{"type": "RuntimeDefault"},
		}
	})
	delete(p["spec"].(map[string]any), "hostNetwork")
	p["spec"].(map[string]any)["automountServiceAccountToken"] = false
	p["metadata"].(map[string]any)["labels"] = map[string]any{"app": "web", "owner": "alice"}
	return p
}
