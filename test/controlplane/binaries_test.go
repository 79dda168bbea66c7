package controlplane_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/test/controlplane"
)

// TestVersion compares the constant with what hack/controlplane builds.
func TestVersion(t *testing.T) {
	mod := must[[]byte](t)(os.ReadFile(filepath.Join("..", "..", "hack", "controlplane", "go.mod")))
	pinned := regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\S+)`).FindSubmatch(mod)
	if pinned == nil || string(pinned[1]) != controlplane.Version {
		t.Errorf("hack/controlplane/go.mod pins %q, Version is %s: change both together", pinned, controlplane.Version)
	}
}

func TestBinaries(t *testing.T) {
	all := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}
	for name, tc := range map[string]struct {
		reason        string
		assets, cache []string // what each folder holds
		want          [5]string
		missing       []string
	}{
		"Cache": {
			reason: "Without assets everything comes from the cache.",
			cache:  all,
			want:   [5]string{"cache", "cache", "cache", "cache", "cache"},
		},
		"Mixed": {
			reason: "The assets of envtest have no controller manager.",
			assets: []string{"etcd", "kube-apiserver", "kubectl"},
			cache:  all,
			want:   [5]string{"assets", "assets", "cache", "cache", "assets"},
		},
		"Missing": {
			reason:  "All that is missing is named at once.",
			cache:   []string{"etcd", "kube-scheduler", "kubectl"},
			missing: []string{"kube-apiserver", "kube-controller-manager"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			assets, cache := t.TempDir(), t.TempDir()
			version := fmt.Sprintf("%s-%s-%s", controlplane.Version, runtime.GOOS, runtime.GOARCH)
			t.Setenv("CONTROLPLANE_VERSION", "")
			t.Setenv("KUBEBUILDER_ASSETS", assets)
			t.Setenv("FUSEGATE_CONTROLPLANE_CACHE", cache)
			place(t, assets, tc.assets)
			place(t, filepath.Join(cache, version), tc.cache)

			got, err := controlplane.Binaries()
			if tc.missing != nil {
				checkMissing(t, err, tc.missing)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			folder := map[string]string{"assets": assets, "cache": filepath.Join(cache, version)}
			want := controlplane.Assets{
				Etcd:              filepath.Join(folder[tc.want[0]], all[0]),
				APIServer:         filepath.Join(folder[tc.want[1]], all[1]),
				ControllerManager: filepath.Join(folder[tc.want[2]], all[2]),
				Scheduler:         filepath.Join(folder[tc.want[3]], all[3]),
				Kubectl:           filepath.Join(folder[tc.want[4]], all[4]),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.reason, diff)
			}
		})
	}
}

// TestOtherVersion checks that the binaries of another version are taken from its
// folder or not at all, and that etcd is not one of them.
func TestOtherVersion(t *testing.T) {
	assets, cache := t.TempDir(), t.TempDir()
	t.Setenv("CONTROLPLANE_VERSION", "v1.35.2")
	t.Setenv("KUBEBUILDER_ASSETS", assets)
	t.Setenv("FUSEGATE_CONTROLPLANE_CACHE", cache)
	folder := func(version string) string {
		return filepath.Join(cache, fmt.Sprintf("%s-%s-%s", version, runtime.GOOS, runtime.GOARCH))
	}
	all := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}
	place(t, assets, all[1:])
	place(t, folder(controlplane.Version), all)
	_, err := controlplane.Binaries()
	checkMissing(t, err, all[1:])
	place(t, folder("v1.35.2"), all[1:])
	got := must[controlplane.Assets](t)(controlplane.Binaries())
	if want := filepath.Join(folder(controlplane.Version), "etcd"); got.Etcd != want {
		t.Errorf("etcd: got %s, want %s", got.Etcd, want)
	}
	if want := filepath.Join(folder("v1.35.2"), "kube-apiserver"); got.APIServer != want {
		t.Errorf("API server: got %s, want %s", got.APIServer, want)
	}
}

func checkMissing(t *testing.T, err error, names []string) {
	t.Helper()
	var missing *controlplane.MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("got %v, want a MissingError", err)
	}
	if diff := cmp.Diff(names, missing.Names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !strings.Contains(err.Error(), "make controlplane") || !strings.Contains(err.Error(), names[0]) {
		t.Errorf("got %q, want the names and the fix", err)
	}
}

// TestStartWithoutBinaries checks that Start gives the same help.
func TestStartWithoutBinaries(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", "")
	t.Setenv("FUSEGATE_CONTROLPLANE_CACHE", t.TempDir())
	_, err := controlplane.Start(t.Context(), controlplane.Options{Scheduler: true})
	checkMissing(t, err, []string{"etcd", "kube-apiserver", "kube-scheduler"})
}

func place(t *testing.T, folder string, names []string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
