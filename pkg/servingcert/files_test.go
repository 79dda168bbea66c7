package servingcert_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/fusegate/fusegate/pkg/servingcert"
	"github.com/fusegate/fusegate/test/env"
)

// files are those of a certificate's folder, by name.
type files map[string][]byte

func issued(t testing.TB, now time.Time) files {
	t.Helper()
	a, err := servingcert.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	crt, key, err := a.Issue(names, now)
	if err != nil {
		t.Fatal(err)
	}
	return files{"ca.crt": a.CertificatePEM(), "tls.crt": crt, "tls.key": key}
}

func (f files) leaf(t testing.TB) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(f["tls.crt"], f["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// publish puts files where their names point to, as a kubelet does: all at once.
func (f files) publish(t testing.TB, dir string) {
	t.Helper()
	data, link := filepath.Join(dir, "..data"), filepath.Join(dir, "..data_tmp")
	before, _ := os.Readlink(data)
	folder, err := os.MkdirTemp(dir, "..")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range f {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), text, 0o600))
	}
	err = errors.Join(err, os.Symlink(filepath.Base(folder), link), os.Rename(link, data))
	for name := range f {
		if e := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); !errors.Is(e, os.ErrExist) {
			err = errors.Join(err, e)
		}
	}
	if before != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, before)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// listen answers handshakes until the test ends.
func listen(t testing.TB, c *servingcert.Files) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: c.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).HandshakeContext(t.Context()) // the client says why it failed
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	return listener.Addr().String()
}

// handshake returns what a client of an authority is presented with, and takes.
func handshake(ctx context.Context, address string, authority []byte) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{RootCAs: roots, ServerName: host}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], conn.Close()
}

// TestFiles waits for a certificate, and follows when it is replaced as a kubelet
// does, and in place; one of another kind of key, too.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	gauge := prometheus.NewRegistry()
	gauge.MustRegister(servingcert.NewExpiry(dir))
	told := func() float64 {
		families, err := gauge.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return families[0].GetMetric()[0].GetGauge().GetValue()
	}
	if got := told(); !math.IsNaN(got) {
		t.Errorf("the gauge says %f before there is a certificate", got)
	}
	waiting := make(chan string, 10)
	c := servingcert.NewFiles(dir, funcr.New(func(_, line string) { waiting <- line }, funcr.Options{}))
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan error, 1), make(chan error, 1)
	go func() { ready <- c.Wait(ctx) }()
	if line := <-waiting; !strings.Contains(line, "tls.crt: no such file or directory") {
		t.Errorf("it logged %q", line)
	}
	first := issued(t, time.Now())
	first.publish(t, dir)
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	go func() { ended <- c.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	address := listen(t, c)
	want := func(what string, f files) {
		t.Helper()
		var last error
		err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, env.Patience, true, func(ctx context.Context) (bool, error) {
			var got *x509.Certificate
			got, last = handshake(ctx, address, f["ca.crt"])
			return last == nil && got.Equal(f.leaf(t)), nil
		})
		if err != nil {
			t.Fatalf("%s is not presented: %v", what, last)
		}
		if got, end := told(), float64(f.leaf(t).NotAfter.Unix()); got != end {
			t.Errorf("%s: the gauge says %f, want %f", what, got, end)
		}
	}
	want("the first", first)
	second := issued(t, time.Now().Add(time.Minute))
	second.publish(t, dir)
	want("the second", second)
	if _, err := handshake(t.Context(), address, first["ca.crt"]); err == nil {
		t.Error("a client of the first authority still gets through")
	}
	others := files(newFormer(t, time.Now()).secret)
	others.publish(t, dir)
	want("the operator's, of RSA", others)
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), first[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want("the first, in place", first)
}

// TestFilesBroken has files that are no certificate end the process, which says so.
func TestFilesBroken(t *testing.T) {
	dir := t.TempDir()
	files{"tls.crt": issued(t, time.Now())["tls.crt"], "tls.key": issued(t, time.Now())["tls.key"]}.publish(t, dir)
	err := servingcert.NewFiles(dir, logr.Discard()).Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), "reading the serving certificate: tls: private key does not match public key") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkHandshake counts full handshakes, both sides of them in this process,
// with a certificate of earlier versions and with one of this.
func BenchmarkHandshake(b *testing.B) {
	for name, f := range map[string]files{"rsa": newFormer(b, time.Now()).secret, "ecdsa": issued(b, time.Now())} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			f.publish(b, dir)
			c := servingcert.NewFiles(dir, logr.Discard())
			if err := c.Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
			address := listen(b, c)
			for b.Loop() {
				if _, err := handshake(b.Context(), address, f["ca.crt"]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
		})
	}
}
