package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

func TestServeWaitsForTheAPIServer(t *testing.T) {
	port := env.FreePort(t)
	dead := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://127.0.0.1:%d"}}]
contexts: [{name: a, context: {cluster: a}}]
current-context: a
`, port)
	if err := os.WriteFile(dead, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := fusegate.Serve(t, "lonely", "--kubeconfig", dead, "--roles=controller")
	m.AwaitLog(t, "waiting for the API server", "connection refused")
	if err := m.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestServeOnBusyPort(t *testing.T) {
	c := start(t)
	m := c.Run(t, "crowded", c.Port)
	if err := m.Wait(); err == nil {
		t.Error("it ended well")
	}
	want := fmt.Sprintf("Error: listening for the webhook: listen tcp 127.0.0.1:%d: bind: address already in use", c.Port)
	if lines := strings.Split(m.Log.String(), "\n"); !slices.Contains(lines, want) {
		t.Errorf("got %s, want the last line %q", m.Log, want)
	}
}

func TestServeWithoutCertificate(t *testing.T) {
	c := start(t)
	port := env.FreePort(t)
	m := fusegate.Serve(t, "bare", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin), "--roles=webhook",
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--cert-dir", filepath.Join(t.TempDir(), "none"))
	m.AwaitLog(t, "waiting for the serving certificate", "none/tls.crt")
	if err := m.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}
