package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/cert"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/env"
)

// open is the webhook's server at a port of its own, as any pod may reach it.
type open struct {
	address string
	server  *patientServer
}

// allowing is a Reviewer that finds nothing.
type allowing struct{}

func (allowing) Review(context.Context, *policy.Review) policy.Result { return policy.Result{} }

func openPort(t *testing.T) *open {
	t.Helper()
	dir := t.TempDir()
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	err = errors.Join(err, os.WriteFile(filepath.Join(dir, "tls.crt"), crt, 0o600), os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	h, err := webhook.New(exempt.Perimeter{}, allowing{}, nil, nil, webhook.Options{Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	port := env.FreePort(t)
	s := newServer("127.0.0.1", port, dir, &leaving{Handler: h}, logr.Discard())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	o := &open{address: fmt.Sprintf("127.0.0.1:%d", port), server: s}
	env.Await(t, "the webhook to listen", func() error {
		c, err := o.dial("127.0.0.1")
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return o
}

// dial connects from an address of this host.
func (o *open) dial(from string) (net.Conn, error) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	return tls.DialWithDialer(d, "tcp", o.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
}

// begin sends the head of a request, and as much of a body as is given.
func (o *open) begin(t *testing.T, from, header, body string) net.Conn {
	t.Helper()
	c, err := o.dial(from)
	if err == nil {
		_, err = io.WriteString(c, "POST "+webhook.Path+"?timeout=3s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+header+"\r\n\r\n"+body)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// honest asks as an API server does, of an object of so many bytes, and wants an answer
// in time.
func (o *open) honest(t *testing.T, size int) {
	t.Helper()
	const head = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Thing"},` +
		`"resource":{"group":"","version":"v1","resource":"things"},"operation":"CREATE","userInfo":{"username":"ann"},"object":{"a":"`
	body := head + strings.Repeat("x", size) + `"}}}`
	start := time.Now()
	c := o.begin(t, "127.0.0.1", fmt.Sprintf("Connection: close\r\nContent-Length: %d", len(body)), body)
	answer, err := io.ReadAll(c)
	if took := time.Since(start); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || took > 3*time.Second {
		t.Errorf("an honest request of %d bytes was answered %.100q after %s: %v", size, answer, took, err)
	}
}

// TestOpenPort does to the webhook's port what any pod may, and wants the requests of
// others answered meanwhile.
func TestOpenPort(t *testing.T) {
	const forger = "127.0.0.2" // all of 127/8 is this host on Linux
	const announced = "Content-Length: 50000000"
	braces := strings.Repeat(`{"a":[`, 10_000)
	cases := map[string]struct {
		reason      string
		connections int
		header      string
		body        string
	}{
		"Announced":    {"room is for what has come, not for what was announced", 300, announced, ""},
		"Chunked":      {"and not for what may come", 300, "Transfer-Encoding: chunked", ""},
		"BegunBodies":  {"what has come of long bodies does not hold out others", 60, announced, strings.Repeat(" ", 1<<20)},
		"SmallBegun":   {"nor do many short ones", 300, "Content-Length: 60000", strings.Repeat(" ", 30_000)},
		"Braces":       {"nor ones that are dear to decode", 20, fmt.Sprintf("Content-Length: %d", len(braces)), braces},
		"Heads":        {"nor those that do not even send a head", 300, "X: " + strings.Repeat("x", 1000), ""},
		"NotForUs":     {"what is not for the webhook is refused before its body", 100, "Content-Type: text/plain\r\n" + announced, ""},
		"HugeAnnounce": {"and so is what is too long", 100, "Content-Length: 5000000000", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := openPort(t)
			var wg sync.WaitGroup
			for range tc.connections {
				wg.Go(func() {
					c, err := o.dial(forger)
					if err != nil {
						return // it was too slow for the server, which is right
					}
					t.Cleanup(func() { _ = c.Close() })
					end := "\r\n\r\n"
					if name == "Heads" {
						end = "\r\n"
					}
					_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second)) // it may not be read
					_, _ = io.WriteString(c, "POST "+webhook.Path+"?timeout=3s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+tc.header+end+tc.body)
				})
			}
			wg.Wait()
			for range 3 {
				o.honest(t, 5<<10)
				o.honest(t, 3<<20)
			}
		})
	}
}

// TestConnectionsOfAnAddress: an address has as many as an API server may need and not
// more, and one that holds many does not keep others out.
func TestConnectionsOfAnAddress(t *testing.T) {
	l := newFairListener(nil, nil)
	fill := func(address string) (n int) {
		for l.enter(address) {
			n++
		}
		return n
	}
	if got := fill("forger-1"); got != maxConnectionsOfAddress {
		t.Errorf("an address had %d connections, want %d", got, maxConnectionsOfAddress)
	}
	for _, forger := range []string{"forger-2", "forger-3", "forger-4"} {
		fill(forger)
	}
	if l.open > maxConnections+maxConnections/4 {
		t.Errorf("%d connections are open", l.open)
	}
	for range 600 {
		if !l.enter("api-server") {
			t.Fatalf("an API server could not connect beside %d connections of others", l.open)
		}
	}
	for address, n := range l.byAddress {
		for range n {
			l.leave(address)
		}
	}
	if l.open != 0 || len(l.byAddress) != 0 {
		t.Errorf("%d connections of %d addresses are left", l.open, len(l.byAddress))
	}
}

// TestConnectionsAreRefused: it is so on a real listener, a connection that ends makes
// room, and what is refused is counted.
func TestConnectionsAreRefused(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := prometheus.NewCounter(prometheus.CounterOpts{Name: "refused"})
	l := newFairListener(inner, refused)
	l.ofAddress = 2
	s := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: headerTimeout}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	connect := func() (net.Conn, error) {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			return nil, err
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = c.Read(make([]byte, 1))
		return c, err
	}
	first, err := connect()
	second, err2 := connect()
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if third, err := connect(); err == nil {
		t.Error("there is a third")
	} else {
		_ = third.Close()
	}
	_ = first.Close()
	env.Await(t, "room for another", func() error {
		c, err := connect()
		if err == nil {
			defer func() { _ = c.Close() }()
		}
		return err
	})
}
