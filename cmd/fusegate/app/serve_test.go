package app

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

func TestServeWaitsForTheAPIServer(t *testing.T) {
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	dead := configuration(t, fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://127.0.0.1:%d"}}]
contexts: [{name: a, context: {cluster: a}}]
current-context: a
`, port))
	m := (&testCluster{}).serve(t, "lonely", "--kubeconfig", dead, "--roles=controller")
	await(t, "the log to say what it waits for", func() error {
		if log := m.log.String(); !strings.Contains(log, "waiting for the API server") || !strings.Contains(log, "connection refused") {
			return fmt.Errorf("got %s", log)
		}
		return nil
	})
	if err := m.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestServeOnBusyPort(t *testing.T) {
	c := start(t)
	m := c.run(t, "crowded", c.port)
	if err := m.cmd.Wait(); err == nil {
		t.Error("it ended well")
	}
	want := fmt.Sprintf("Error: listen tcp 127.0.0.1:%d: bind: address already in use", c.port)
	if lines := strings.Split(m.log.String(), "\n"); !slices.Contains(lines, want) {
		t.Errorf("got %s, want the last line %q", m.log, want)
	}
}

func TestServeWithoutCertificate(t *testing.T) {
	c := start(t)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	m := c.serve(t, "bare", "--kubeconfig", c.cp.Kubeconfig("admin"), "--roles=webhook",
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--cert-dir", filepath.Join(t.TempDir(), "none"))
	await(t, "the log to say what it waits for", func() error {
		if log := m.log.String(); !strings.Contains(log, "waiting for the serving certificate") || !strings.Contains(log, "none/tls.crt") {
			return fmt.Errorf("got %s", log)
		}
		return nil
	})
	if err := m.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}
