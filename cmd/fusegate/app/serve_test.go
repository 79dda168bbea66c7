package app

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/install"
)

// mounted is the file in the ConfigMap among manifests.
func mounted(t *testing.T, manifests string) string {
	t.Helper()
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		var object struct {
			Kind string
			Data map[string]string
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if object.Kind == "ConfigMap" {
			return object.Data[install.ConfigKey]
		}
	}
	t.Fatal("there is no ConfigMap")
	return ""
}
