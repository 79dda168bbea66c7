package app

import (
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusegate/fusegate/pkg/webhook"
)

// What connections to the webhook there may be. Each takes the memory of a TLS
// connection and its buffers, which was not measured.
//
// An API server has as many as it has requests in progress, which its own limits
// bound (--max-requests-inflight and --max-mutating-requests-inflight, 600 together
// unless set otherwise), and keeps 25 for later: a connection that is refused is a
// request let through, so that the limit of an address is well above that.
const (
	maxConnections          = 3000
	maxConnectionsOfAddress = 1000
)

// fairListener closes connections at once that are too many: of an address that has
// most, or, when there are many in all, has more than its share of them.
type fairListener struct {
	net.Listener
	all, ofAddress int
	refused        prometheus.Counter

	mu        sync.Mutex
	open      int
	byAddress map[string]int
}

func newFairListener(l net.Listener, refused prometheus.Counter) *fairListener {
	return &fairListener{Listener: l, all: maxConnections, ofAddress: maxConnectionsOfAddress, refused: refused, byAddress: map[string]int{}}
}

// Accept implements net.Listener.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := webhook.Source(c.RemoteAddr().String())
		if l.enter(address) {
			return &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(address) })}, nil
		}
		l.refused.Inc()
		_ = c.Close()
	}
}

// enter counts a connection, if there may be one more of the address. One that has
// less than its share may have another though there are many.
func (l *fairListener) enter(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	has := l.byAddress[address]
	share := l.all / max(1, len(l.byAddress))
	if has >= l.ofAddress || l.open >= l.all && has >= share {
		return false
	}
	l.open++
	l.byAddress[address]++
	return true
}

func (l *fairListener) leave(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byAddress[address]--; l.byAddress[address] == 0 {
		delete(l.byAddress, address)
	}
}

// countedConn counts until it is closed.
type countedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
