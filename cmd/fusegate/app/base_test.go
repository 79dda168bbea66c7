package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

var manifestsDir = filepath.Join("..", "..", "..", "manifests")

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestBase checks that the kustomize base is what the command renders.
func TestBase(t *testing.T) {
	t.Setenv("FUSEGATE_CONFIG", "")
	want, _, err := execute(t, "manifests")
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(read(t, manifestsDir, "base", "fusegate.yaml"), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests/base differs from what is rendered; run make manifests (-rendered +file):\n%s", diff)
	}
}

// TestArgoExample checks that the example names what has other owners.
func TestArgoExample(t *testing.T) {
	text := read(t, manifestsDir, "argocd", "application.yaml")
	for _, want := range []string{
		"name: " + install.ConfigurationName + "\n", "name: " + install.CertSecretName + "\n", "name: " + install.AuthoritySecretName + "\n", "namespace: " + exempt.DefaultNamespace + "\n",
		".webhooks[].rules", ".webhooks[].clientConfig.caBundle", exempt.RevisionConditionName, "fuse-open", "path: manifests/base",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the example", want)
		}
	}
}
