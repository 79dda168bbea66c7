//go:build unix

package controlplane_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/test/controlplane"
)

// standby is the index of the API server that Start did not start.
const standby = 2

// testStandby starts another API server on the same etcd: in vain at first,
// then in earnest, and sees it die.
func testStandby(t *testing.T, c *controlplane.ControlPlane) {
	if _, ok := c.Processes()["kube-apiserver-2"]; ok || c.APIServerEnd(standby) != nil {
		t.Fatal("the API server on standby has been started")
	}
	testDeadOnArrival(t, c)
	testStopWhileStarting(t, c)
	if err := c.StartAPIServer(t.Context(), standby); err != nil {
		t.Fatal(err)
	}
	if end := c.APIServerEnd(standby); end != nil {
		t.Errorf("while it runs: got the end %v", end)
	}
	_, err := clientOf(t, c, standby, controlplane.Admin).CoreV1().ConfigMaps("default").Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "by-standby"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clientOf(t, c, 0, controlplane.Admin).CoreV1().ConfigMaps("default").
		Get(t.Context(), "by-standby", metav1.GetOptions{}); err != nil {
		t.Errorf("what it wrote is not at the first API server: %v", err)
	}
	testKilled(t, c)
}

// testDeadOnArrival makes it find a token file that it cannot use, and checks
// what is known of its end.
func testDeadOnArrival(t *testing.T, c *controlplane.ControlPlane) {
	t.Helper()
	tokens := filepath.Join(c.Dir(), "tokens.csv")
	good := must[[]byte](t)(os.ReadFile(tokens))
	if err := os.WriteFile(tokens, []byte("token,user\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := c.StartAPIServer(t.Context(), standby)
	if restoreErr := os.WriteFile(tokens, good, 0o600); restoreErr != nil {
		t.Fatal(restoreErr)
	}
	var end *controlplane.EndedError
	var exit *exec.ExitError
	if !errors.As(err, &end) || !errors.As(err, &exit) {
		t.Fatalf("with a bad token file: got %v, want an EndedError with the exit status", err)
	}
	if end.Component != "kube-apiserver-2" || end.After <= 0 || !strings.Contains(end.Reason, "token file") {
		t.Errorf("with a bad token file: got %+v, want the reason", end)
	}
	if again := c.APIServerEnd(standby); again == nil || *again != *end {
		t.Errorf("APIServerEnd: got %v, want %v", again, end)
	}
}

// testKilled kills it: there is no reason, not even that of its predecessor in
// the same log.
func testKilled(t *testing.T, c *controlplane.ControlPlane) {
	t.Helper()
	if err := syscall.Kill(c.Processes()["kube-apiserver-2"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(context.Context) error {
		if c.APIServerEnd(standby) == nil {
			return errors.New("it is not known to have ended")
		}
		return nil
	})
	got, want := c.APIServerEnd(standby), "signal: killed"
	if got.Err.Error() != want || got.Reason != "" {
		t.Errorf("got %+v, want %s and no reason", got, want)
	}
	if err := c.StopAPIServer(t.Context(), standby); err != nil {
		t.Fatal(err)
	}
	if end := c.APIServerEnd(standby); end != nil {
		t.Errorf("once it was stopped: got the end %v", end)
	}
}

// testStopWhileStarting stops it while somebody waits for it.
func testStopWhileStarting(t *testing.T, c *controlplane.ControlPlane) {
	t.Helper()
	started := make(chan error, 1)
	go func() { started <- c.StartAPIServer(t.Context(), standby) }()
	eventually(t, func(context.Context) error {
		if _, ok := c.Processes()["kube-apiserver-2"]; !ok {
			return errors.New("it is not launched")
		}
		return nil
	})
	if err := c.StopAPIServer(t.Context(), standby); err != nil {
		t.Fatal(err)
	}
	var end *controlplane.EndedError
	if err := <-started; !errors.As(err, &end) {
		t.Errorf("stopping it while it starts: got %v, want an EndedError", err)
	}
}
