package install_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

func TestTakenBack(t *testing.T) {
	c := fresh(t)
	cfg, unset := ownConfig(t), config.Default()
	nothing := func(when string) {
		t.Helper()
		if got, err := install.TakenBack(t.Context(), c, cfg, unset); err != nil || !cmp.Equal(got, config.Loss{}) {
			t.Errorf("%s: got %v and error %v, want no loss", when, got, err)
		}
	}
	nothing("where nothing is installed")
	cfg.Exempt = exempt.Options{Namespaces: []string{"a", "b-*"}, Provider: "eks"}
	cfg.AuditResync = 30 * time.Minute
	if _, err := render(t, cfg).Apply(t.Context(), c, install.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	nothing("with the same configuration")
	less := ownConfig(t)
	less.Exempt.Namespaces = []string{"a", "c"}
	got, err := install.TakenBack(t.Context(), c, less, unset)
	want := config.Loss{Exemptions: []string{`namespaces "b-*"`, `provider "eks"`}, Resets: []string{"auditResync was 30m0s, will be 1h0m0s"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v; taken back (-want +got):\n%s", err, diff)
	}

	u := &unstructured.Unstructured{}
	u.SetAPIVersion("v1")
	u.SetKind("ConfigMap")
	u.SetNamespace(cfg.Namespace)
	u.SetName(install.ConfigMapName)
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"data": {"fusegate.yaml": "apiVersion: config.fusegate.dev/v9\nkind: Configuration\n"}}`))
	if err := c.Patch(t.Context(), u, patch); err != nil {
		t.Fatal(err)
	}
	if _, err = install.TakenBack(t.Context(), c, less, unset); err == nil || !strings.Contains(err.Error(), `apiVersion: "config.fusegate.dev/v9"`) {
		t.Errorf("settings of another version: got error %v, want the version named", err)
	}
}
