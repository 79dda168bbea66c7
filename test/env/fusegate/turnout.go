package fusegate

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Turnout passes connections on to one of several ports, as a Service does to
// one of its pods: a change is for new connections, and those that there are go
// on.
type Turnout struct {
	listener net.Listener
	port     atomic.Int64
	accepted atomic.Int64
	done     sync.WaitGroup
}

// NewTurnout listens at a port of the loopback interface until the test ends.
func NewTurnout(t testing.TB) *Turnout {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Turnout{listener: l}
	s.done.Go(s.accept)
	t.Cleanup(func() {
		// The control plane may have ended by then, and with it the connections.
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Port is where it listens.
func (s *Turnout) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Lead has new connections go to a port.
func (s *Turnout) Lead(port int) { s.port.Store(int64(port)) }

// Accepted is how many connections there were.
func (s *Turnout) Accepted() int64 { return s.accepted.Load() }

func (s *Turnout) accept() {
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
