package env_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// options are those of all control planes here.
var options = controlplane.Options{ControllerManager: true}

// TestStart starts control planes with and without a snapshot, and wants the same
// of both: what is there at the start, and that it is theirs.
func TestStart(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *controlplane.ControlPlane{
		"snapshot": func(t *testing.T) *controlplane.ControlPlane { return env.Start(t, options) },
		"bare": func(t *testing.T) *controlplane.ControlPlane {
			cp, err := controlplane.Start(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cp.Stop() })
			return cp
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			cp := start(t)
			t.Logf("started in %v", time.Since(began))
			c := env.Client(t, cp.Config(controlplane.Admin))
			ca := strings.TrimSpace(string(cp.Config(controlplane.Admin).CAData))
			env.AwaitObject(t, c, env.Object("v1", "ConfigMap", "default", "kube-root-ca.crt"), "the authority", func(u *unstructured.Unstructured) error {
				if got, _, _ := unstructured.NestedString(u.Object, "data", "ca.crt"); strings.TrimSpace(got) != ca {
					return errors.New("it is of another control plane")
				}
				return nil
			})
			out, _, err := cp.Kubectl(t.Context(), controlplane.Admin, "", "create", "namespace", "mine", "-o", "name")
			if err != nil || out != "namespace/mine\n" {
				t.Errorf("got %q, %v", out, err)
			}
			if name == "snapshot" {
				testSnapshotIsKept(t)
				testAwaitObject(t, c)
			}
		})
	}
}

// testAwaitObject follows an object that is not there at first.
func testAwaitObject(t *testing.T, c client.WithWatch) {
	object := env.Parse(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: default}, data: {n: '0'}}")
	done := make(chan error, 1)
	go func() {
		err := c.Create(t.Context(), object)
		for n := range 5 {
			object.Object["data"] = map[string]any{"n": fmt.Sprint(n)}
			err = errors.Join(err, c.Update(t.Context(), object))
		}
		done <- err
	}()
	got := env.AwaitObject(t, c, env.Object("v1", "ConfigMap", "default", "a"), "the last change", func(u *unstructured.Unstructured) error {
		if n, _, _ := unstructured.NestedString(u.Object, "data", "n"); n != "4" {
			return fmt.Errorf("it is %s", n)
		}
		return nil
	})
	if err := <-done; err != nil || got.GetName() != "a" {
		t.Errorf("got %v, %v", got, err)
	}
}

// testSnapshotIsKept checks, after a start, that another makes none.
func testSnapshotIsKept(t *testing.T) {
	folder, _, err := controlplane.Made()
	if err != nil {
		t.Fatal(err)
	}
	before, err := filepath.Glob(filepath.Join(folder, "snapshot-controller-manager-*"))
	if err != nil || len(before) != 1 {
		t.Fatalf("got snapshots %q, %v, want one", before, err)
	}
	made, err := os.Stat(before[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = env.Start(t, options)
	if again, err := os.Stat(before[0]); err != nil || !again.ModTime().Equal(made.ModTime()) {
		t.Errorf("it was made again: %v", err)
	}
}
