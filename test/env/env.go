// Package env is what tests with a real control plane stand on: control planes,
// one for a test or one for all tests of a package, clients, and waiting for what
// is to come. It knows nothing of Fusegate, so that any package's tests may use
// it; test/env/fusegate, which does, runs the processes.
package env

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fusegate/fusegate/test/controlplane"
)

// Patience bounds every wait for a condition. It is long since a loaded machine
// is slow; a test that passes never waits that long.
const Patience = 90 * time.Second

// Start starts a control plane that ends with the test. If the test fails, the
// ends of the API servers' logs are printed.
func Start(t testing.TB, o controlplane.Options) *controlplane.ControlPlane {
	t.Helper()
	cp, err := start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tell(t, cp)
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	return cp
}

// Shared is one control plane for all tests of a package, started by the first
// that asks for it. Its fields are set before.
type Shared struct {
	Options controlplane.Options
	// Prepare, if not nil, is called once it runs.
	Prepare func(context.Context, *controlplane.ControlPlane) error

	once sync.Once
	cp   *controlplane.ControlPlane
	err  error
}

// Get returns the control plane.
func (s *Shared) Get(t testing.TB) *controlplane.ControlPlane {
	t.Helper()
	s.once.Do(func() {
		ctx := context.Background()
		if s.cp, s.err = start(ctx, s.Options); s.err == nil && s.Prepare != nil {
			ctx, cancel := context.WithTimeout(ctx, Patience)
			defer cancel()
			s.err = s.Prepare(ctx, s.cp)
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	t.Cleanup(func() { tell(t, s.cp) })
	return s.cp
}

// Stop stops it, if it was started.
func (s *Shared) Stop() error {
	if s.cp == nil {
		return nil
	}
	return s.cp.Stop()
}

// What controller-runtime's clients log is no test's concern.
func init() { ctrllog.SetLogger(logr.Discard()) }

// Run runs the tests of a package and stops what they shared. It returns the code
// with which TestMain ends the process.
func Run(m *testing.M, shared ...*Shared) int {
	code := m.Run()
	for _, s := range shared {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
			code = 1
		}
	}
	return code
}

// tell prints the end of the first API server's log for a test that failed.
func tell(t testing.TB, cp *controlplane.ControlPlane) {
	const most = 4000
	if !t.Failed() {
		return
	}
	text, err := os.ReadFile(cp.Log("kube-apiserver-0"))
	if err != nil {
		t.Log(err)
		return
	}
	t.Logf("the log of kube-apiserver-0 ends:\n%s", text[max(0, len(text)-most):])
}

// FreePort is one of the loopback interface that nobody listens at.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().(*net.TCPAddr).Port
}
