package main

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"k8s.io/client-go/util/cert"
)

// blackhole is a backend that accepts connections and never says a word, as a
// process does that is stopped or swaps: the kernel accepts for it.
type blackhole struct {
	listener net.Listener
	ca       []byte
	// called is closed when the first connection comes in.
	called chan struct{}
	done   chan struct{}

	mu    sync.Mutex
	conns []net.Conn
}

func newBlackhole() (*blackhole, error) {
	ca, _, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return nil, fmt.Errorf("making the backend's certificate: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening as the backend: %w", err)
	}
	b := &blackhole{listener: listener, ca: ca, called: make(chan struct{}), done: make(chan struct{})}
	go b.accept()
	return b, nil
}

func (b *blackhole) accept() {
	defer close(b.done)
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return // The listener is closed.
		}
		b.mu.Lock()
		b.conns = append(b.conns, conn)
		if len(b.conns) == 1 {
			close(b.called)
		}
		b.mu.Unlock()
	}
}

func (b *blackhole) url() string { return "https://" + b.listener.Addr().String() }

// calls is the number of connections so far, one per request: none is ever
// used again.
func (b *blackhole) calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// close ends what hangs.
func (b *blackhole) close() error {
	errs := []error{b.listener.Close()}
	<-b.done
	for _, conn := range b.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}
