package install

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/manifests"
)

// parse reads the objects of an embedded file.
func parse(name string) ([]*unstructured.Unstructured, error) {
	data, err := manifests.FS.ReadFile(name)
	if err != nil {
		return nil, err
	}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var out []*unstructured.Unstructured
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		u, err := parseObject(document)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
}

func parseObject(document []byte) (*unstructured.Unstructured, error) {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	if _, ok := kinds[u.GetKind()]; !ok {
		return nil, fmt.Errorf("%s: a manifest may not hold this kind", refOf(u))
	}
	return u, nil
}

// fit sets in a manifest what the configuration says.
func (c renderer) fit(u *unstructured.Unstructured, hash string) error {
	switch u.GetKind() {
	case "Namespace":
		u.SetName(c.Namespace)
	case "ClusterRole":
		if err := c.fitRole(u); err != nil {
			return err
		}
	case "ClusterRoleBinding", "RoleBinding":
		if err := c.fitBinding(u); err != nil {
			return err
		}
	case "Deployment":
		if err := c.fitDeployment(u, hash); err != nil {
			return err
		}
	case "Service":
		if err := editItems(u, func(port map[string]any) { port["port"] = int64(c.ServicePort) }, "spec", "ports"); err != nil {
			return err
		}
	}
	if u.GetNamespace() != "" {
		u.SetNamespace(c.Namespace)
	}
	return nil
}

func (c renderer) fitBinding(u *unstructured.Unstructured) error {
	return editItems(u, func(subject map[string]any) { subject["namespace"] = c.Namespace }, "subjects")
}

func (c renderer) fitDeployment(u *unstructured.Unstructured, hash string) error {
	replicas := int64(c.ControllerReplicas)
	if u.GetName() == ServiceName {
		replicas = int64(c.WebhookReplicas)
	}
	return errors.Join(
		unstructured.SetNestedField(u.Object, replicas, "spec", "replicas"),
		unstructured.SetNestedField(u.Object, hash, "spec", "template", "metadata", "annotations", configHash),
		editItems(u, func(container map[string]any) { container["image"] = c.Image }, "spec", "template", "spec", "containers"),
	)
}

// editItems changes every item of the list of maps at path.
func editItems(u *unstructured.Unstructured, edit func(map[string]any), path ...string) error {
	items, found, err := unstructured.NestedSlice(u.Object, path...)
	if err != nil {
		return fmt.Errorf("%s: %w", refOf(u), err)
	}
	if !found {
		return fmt.Errorf("%s: no list at %v", refOf(u), path)
	}
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			edit(m)
		}
	}
	return unstructured.SetNestedSlice(u.Object, items, path...)
}
