package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
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

// TestKustomize has a real kubectl build the base, and a real API server
// accept every object of it.
func TestKustomize(t *testing.T) {
	cp, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &testCluster{cp: cp}
	c.must(t, "", "create", "namespace", exempt.DefaultNamespace) // a dry run makes none to put the others in
	out := c.must(t, "", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", filepath.Join(manifestsDir, "base"))
	plan, err := install.Render(install.Config{Image: image()})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, "serverside-applied"); got != len(plan.Objects) {
		t.Errorf("got %d objects applied, want %d:\n%s", got, len(plan.Objects), out)
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
