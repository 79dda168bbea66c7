package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// turnout passes connections on to one of several ports, as a Service does to
// one of its pods: a change is for new connections, and those that there are go
// on.
type turnout struct {
	listener net.Listener
	port     atomic.Int64
	accepted atomic.Int64
	done     sync.WaitGroup
}

func newTurnout(t *testing.T) *turnout {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &turnout{listener: l}
	s.done.Go(s.accept)
	return s
}

func (s *turnout) accept() {
	for {
		in, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.accepted.Add(1)
		out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port.Load()))
		if err != nil {
			_ = in.Close()
			continue
		}
		s.done.Go(func() { relay(in, out) })
		s.done.Go(func() { relay(out, in) })
	}
}

// relay copies until one side ends, and ends the other then.
func relay(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// TestDrain stops one of two webhooks by turns while violating objects are
// written, and wants every one denied: a call that fails lets its object in.
func TestDrain(t *testing.T) {
	c := bare(t)
	s := newTurnout(t)
	t.Cleanup(func() {
		// The control plane has ended by then, and with it the connections.
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	c.Port = s.listener.Addr().(*net.TCPAddr).Port
	if out, err := fusegate.Command(c.Outside()...).CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
	c.Role(t, "controller")
	next := func() (m *fusegate.Manager, port int) {
		port = env.FreePort(t)
		m = c.Begin(t, "webhook", port)
		m.AwaitReady(t)
		return m, port
	}
	answering, port := next()
	s.port.Store(int64(port))
	c.Must(t, fusegate.LabelTemplate("DrainLabels", "missing"), "apply", "-f", "-")
	c.AwaitTemplate(t, "drainlabels")
	c.Must(t, fusegate.Constraint("DrainLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`), "apply", "-f", "-")
	c.AwaitCreate(t, fusegate.ConfigMap("default", "bare"), fusegate.Denied+"[owner] missing label owner")

	var stops []func()
	for range 4 {
		stops = append(stops, c.Probe(t))
	}
	for range 3 {
		relief, port := next()
		s.port.Store(int64(port))
		if err := answering.End(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		answering = relief
	}
	for _, stop := range stops {
		stop()
	}
	if _, stderr, ok := c.Kubectl(t, controlplane.Admin, "", "delete", "constrainttemplate", "drainlabels"); !ok {
		t.Error(stderr)
	}
	if err := answering.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	t.Logf("%d connections", s.accepted.Load())
}
