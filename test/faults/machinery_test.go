//go:build linux

package faults_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fusegate/fusegate/test/env"
)

// service plays the Service in front of the webhook, as kube-proxy and the
// network make it: it forwards connections, refuses them, accepts them without
// a word, or drops what is sent to it.
type service struct {
	address string

	mu       sync.Mutex
	listener net.Listener
	target   string
	mute     bool
	conns    map[*pipe]struct{}
	accepted int
	dropping func()
}

// pipe is a forwarded connection. A silent one takes all and passes on nothing.
type pipe struct {
	near, far net.Conn
	silent    atomic.Bool
}

func newService(address string) *service {
	return &service{address: address, conns: map[*pipe]struct{}{}}
}

// forward leads connections to the target, new ones only: those there are are
// cut.
func (s *service) forward(target string) error {
	s.refuse()
	return s.listen(target, false)
}

// shift leads new connections to the target and leaves the others alone.
func (s *service) shift(target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = target
}

// hang accepts connections and never says a word; those there are go silent.
func (s *service) hang() error {
	s.stale()
	s.mu.Lock()
	if s.listener != nil {
		s.mute = true
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.listen("", true)
}

// stale loses what is sent over the connections that there are, as when the
// node at the other end is gone. New ones work.
func (s *service) stale() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.conns {
		p.silent.Store(true)
	}
}

// refuse cuts all connections and refuses new ones, as a Service without
// endpoints does.
func (s *service) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		_ = s.listener.Close()
		s.listener = nil
	}
	for p := range s.conns {
		p.close()
	}
	clear(s.conns)
	if s.dropping != nil {
		s.dropping()
		s.dropping = nil
	}
}

// drop loses every packet of new connections, as a NetworkPolicy does: Linux
// does so when a listener's queue is full.
func (s *service) drop() error {
	s.refuse()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making a socket: %w", err)
	}
	address, err := net.ResolveTCPAddr("tcp4", s.address)
	if err != nil {
		return fmt.Errorf("reading the address of the Service: %w", err)
	}
	to := &syscall.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("sharing the address: %w", err)
	}
	if err := syscall.Bind(fd, to); err != nil {
		return fmt.Errorf("binding to the address: %w", err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	filler, err := net.Dial("tcp", s.address)
	if err != nil {
		return fmt.Errorf("filling the queue: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropping = func() {
		_ = filler.Close()
		_ = syscall.Close(fd)
	}
	return nil
}

// calls is the number of connections so far.
func (s *service) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

func (s *service) listen(target string, mute bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("listening as the Service: %w", err)
	}
	s.listener, s.target, s.mute = listener, target, mute
	go s.accept(listener)
	return nil
}

// accept ends with the listener.
func (s *service) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		s.open(conn)
	}
}

func (s *service) open(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted++
	p := &pipe{near: conn}
	p.silent.Store(s.mute)
	s.conns[p] = struct{}{}
	if s.mute {
		return // It is closed with the others.
	}
	far, err := net.Dial("tcp", s.target)
	if err != nil {
		p.close()
		delete(s.conns, p)
		return
	}
	p.far = far
	go p.copy(p.far, p.near)
	go p.copy(p.near, p.far)
}

// copy passes on what is read until either side ends.
func (p *pipe) copy(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if p.silent.Load() {
			if err != nil {
				return // nobody hears of the end either
			}
			continue
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				p.close()
				return
			}
		}
		if err != nil {
			p.close()
			return
		}
	}
}

func (p *pipe) close() {
	_ = p.near.Close()
	if p.far != nil {
		_ = p.far.Close()
	}
}

// component is a part of the control plane that the test ends and starts as it
// was.
type component struct {
	name, dir, log string
	args, env      []string
	pid            int // of the process that test/controlplane started, until it is killed
	cmd            *exec.Cmd
	done           chan struct{}
}

// remember notes how a process was started.
func remember(name string, pid int, log string) (*component, error) {
	c := &component{name: name, pid: pid, log: log}
	for file, field := range map[string]*[]string{"cmdline": &c.args, "environ": &c.env} {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
		if err != nil {
			return nil, fmt.Errorf("looking how %s was started: %w", name, err)
		}
		*field = strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
	}
	var err error
	if c.dir, err = os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd")); err != nil {
		return nil, fmt.Errorf("looking where %s runs: %w", name, err)
	}
	return c, nil
}

// kill ends it without grace and waits for the end.
func (c *component) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		<-c.done
		c.cmd = nil
	}
}

// killFirst ends the process that test/controlplane started, which waits for it.
func (f *faultWorld) killFirst(t *testing.T, c *component) {
	t.Helper()
	if c.pid == 0 {
		return
	}
	if err := syscall.Kill(c.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	env.Await(t, c.name+" to end", func() error {
		if _, ok := f.CP.Processes()[c.name]; ok {
			return fmt.Errorf("process %d runs", c.pid)
		}
		return nil
	})
	c.pid = 0
}

// stop ends components.
func (f *faultWorld) stop(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		f.killFirst(t, f.components[name])
		f.components[name].kill()
	}
}

// start starts a component that was stopped. It does not outlive the test: the
// kernel kills it when the thread ends that started it.
func (c *component) start(t *testing.T, more ...string) {
	t.Helper()
	log, err := os.OpenFile(c.log, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.args[0], append(c.args[1:len(c.args):len(c.args)], more...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.dir, c.env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	c.cmd, c.done = cmd, done
}

func (f *faultWorld) startAll(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		f.components[name].start(t)
	}
}

// arg is the value of a flag that the component was started with.
func (c *component) arg(flag string) string {
	for _, a := range c.args {
		if value, ok := strings.CutPrefix(a, "--"+flag+"="); ok {
			return value
		}
	}
	return ""
}

// etcdRange asks etcd about all keys with a prefix, past any API server. The
// path is kv/range or kv/deleterange of its gateway.
func (f *faultWorld) etcdRange(t *testing.T, path, prefix string) int {
	t.Helper()
	pki := filepath.Join(f.CP.Dir(), "pki")
	client, err := tls.LoadX509KeyPair(filepath.Join(pki, "etcd-client.crt"), filepath.Join(pki, "etcd-client.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(env.Read(t, pki, "etcd-ca.crt")))
	end := prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
	body, err := json.Marshal(map[string]any{
		"key": base64.StdEncoding.EncodeToString([]byte(prefix)), "range_end": base64.StdEncoding.EncodeToString([]byte(end)),
	})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}}}
	resp, err := (&http.Client{Transport: transport}).Post(f.components["etcd"].arg("listen-client-urls")+"/v3/"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Count, Deleted string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("etcd answered %s: %v", resp.Status, err)
	}
	n, _ := strconv.Atoi(answer.Count + answer.Deleted) // left out when it is zero
	return n
}

// pressure is writers that write at the same time until they are stopped.
type pressure struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu                       sync.Mutex
	judged, unjudged, failed int
	longest                  time.Duration
	first                    error
}

func (f *faultWorld) press(ctx context.Context, writers int) *pressure {
	ctx, cancel := context.WithCancel(ctx)
	l := &pressure{cancel: cancel}
	for range writers {
		l.done.Go(func() {
			for ctx.Err() == nil {
				l.count(f.write(context.WithoutCancel(ctx)))
			}
		})
	}
	return l
}

func (l *pressure) count(w answered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case w.err != nil:
		l.failed++
		l.first = w.err
	case w.judged:
		l.judged++
	default:
		l.unjudged++
	}
	l.longest = max(l.longest, w.took)
}

// await returns once there were so many more writes.
func (l *pressure) await(t *testing.T, more int) {
	t.Helper()
	made := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.judged + l.unjudged + l.failed
	}
	before := made()
	env.Await(t, "writes to go on", func() error {
		if n := made() - before; n < more {
			return fmt.Errorf("%d of %d", n, more)
		}
		return nil
	})
}

// String says what came of the writes.
func (l *pressure) String() string {
	return fmt.Sprintf("of %d writes %d failed and %d were let through unjudged, %s at most",
		l.judged+l.unjudged+l.failed, l.failed, l.unjudged, round(l.longest))
}

// stop ends the writers and fails the test if a write failed, or if there was
// none.
func (l *pressure) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	l.done.Wait()
	if l.failed > 0 || l.judged+l.unjudged == 0 {
		t.Errorf("%d writes failed (such as: %v), %d went through, want none to fail", l.failed, l.first, l.judged+l.unjudged)
	}
}
