package app

import (
	"bytes"
	order "cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/keyutil"
)

// keyPairs are files of a certificate directory, by name.
type keyPairs map[string][]byte

// rotated are the files that the rotation makes, valid for a time from an hour
// ago on, as is its authority for another.
func rotated(t testing.TB, valid, authority time.Duration) keyPairs {
	t.Helper()
	return certified(t, "fusegate-ca", valid, authority)
}

// certified are such files of an authority of any name.
func certified(t testing.TB, name string, valid, authority time.Duration) keyPairs {
	t.Helper()
	r := rotator.CertRotator{
		CAName: name, CAOrganization: "fusegate", DNSName: webhookHost, ExtraDNSNames: []string{webhookHost + ".cluster.local"},
		ExtKeyUsages: &[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	begin := time.Now().Add(-time.Hour)
	ca, err := r.CreateCACert(begin, begin.Add(authority))
	if err != nil {
		t.Fatal(err)
	}
	crt, key, err := r.CreateCertPEM(ca, begin, begin.Add(valid))
	if err != nil {
		t.Fatal(err)
	}
	return keyPairs{"ca.crt": ca.CertPEM, "ca.key": ca.KeyPEM, "tls.crt": crt, "tls.key": key}
}

// with are the files, some of them others; those that are nil are left out.
func (f keyPairs) with(others keyPairs) keyPairs {
	out := maps.Clone(f)
	maps.Copy(out, others)
	maps.DeleteFunc(out, func(_ string, data []byte) bool { return data == nil })
	return out
}

// signed is a certificate of the authority among the files for the key of
// another, changed.
func (f keyPairs) signed(t *testing.T, signer crypto.Signer, change func(*x509.Certificate)) []byte {
	t.Helper()
	ca, err := tls.X509KeyPair(f["ca.crt"], f["ca.key"])
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: webhookHost}, DNSNames: []string{webhookHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, ca.Leaf, signer.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// key is the private key among the files.
func (f keyPairs) key(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := keyutil.ParsePrivateKeyPEM(f["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

// certificate is the one among the files.
func (f keyPairs) certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(f["tls.crt"], f["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// client is the TLS of an API server that trusts the authority among the files.
func (f keyPairs) client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(f["ca.crt"])
	return &tls.Config{RootCAs: roots, ServerName: webhookHost}
}

// publish puts files where their names point to, as a kubelet does: all at once.
func (f keyPairs) publish(t testing.TB, dir string) {
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

// listen answers handshakes, and ends with the test.
func (l *leaf) listen(t testing.TB) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: l.GetCertificate})
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

// presented are the certificates that a client gets, and takes.
func presented(ctx context.Context, address string, client *tls.Config) ([]*x509.Certificate, error) {
	d := tls.Dialer{Config: client}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates, conn.Close()
}

func TestLeaf(t *testing.T) {
	ours, foreign := rotated(t, 10*time.Hour, 20*time.Hour), rotated(t, 10*time.Hour, 20*time.Hour)
	outlives := rotated(t, 20*time.Hour, 10*time.Hour)
	text, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	cheap := keyPairs{"tls.key": text}
	cheap["tls.crt"] = ours.signed(t, cheap.key(t), func(*x509.Certificate) {})
	rsa := func(change func(c *x509.Certificate)) keyPairs {
		return ours.with(keyPairs{"tls.crt": ours.signed(t, ours.key(t), change)})
	}
	pinned := rsa(func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "fusegate-ca", Organization: []string{"fusegate"}}
	})
	cases := map[string]struct {
		reason string
		files  keyPairs
		only   []uint16 // cipher suites of the client, up to TLS 1.2
		own    bool
		why    string // the log says it is the files' that is presented
	}{
		"as rotated":        {reason: "what a cluster has", files: ours, own: true},
		"with a chain":      {reason: "what follows is sent too", files: ours.with(keyPairs{"tls.crt": append(bytes.Clone(ours["tls.crt"]), ours["ca.crt"]...)}), own: true},
		"outlives its CA":   {reason: "no client would take it for longer", files: outlives, own: true},
		"older client":      {reason: "TLS 1.2", files: ours, only: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, own: true},
		"client of RSA":     {reason: "it could not go on", files: ours, only: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
		"no authority":      {reason: "the operator's files", files: ours.with(keyPairs{"ca.crt": nil, "ca.key": nil}), why: "ca.crt: no such file or directory"},
		"no key of it":      {reason: "nothing to sign with", files: ours.with(keyPairs{"ca.key": nil}), why: "ca.key: no such file or directory"},
		"no PEM":            {reason: "nothing to sign with", files: ours.with(keyPairs{"ca.key": []byte("-")}), why: "failed to find any PEM data"},
		"damaged key":       {reason: "nothing to sign with", files: ours.with(keyPairs{"ca.key": []byte("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n")}), why: "failed to parse private key"},
		"key of another":    {reason: "it would sign what nobody trusts", files: ours.with(keyPairs{"ca.key": foreign["ca.key"]}), why: "private key does not match public key"},
		"another authority": {reason: "who trusts the files' would not take it", files: ours.with(keyPairs{"ca.crt": foreign["ca.crt"], "ca.key": foreign["ca.key"]}), why: "signed by unknown authority"},
		"no authority's":    {reason: "a server's certificate vouches for none", files: pinned.with(keyPairs{"ca.crt": pinned["tls.crt"], "ca.key": ours["tls.key"]}), why: "parent certificate cannot sign"},
		"operator's":        {reason: "the API server may trust the certificate itself", files: certified(t, "acme", 10*time.Hour, 20*time.Hour), why: "is not the rotation's"},
		"self-signed":       {reason: "who trusts it, trusts its key", files: ours.with(keyPairs{"tls.crt": ours["ca.crt"], "tls.key": ours["ca.key"]}), why: "it is an authority itself"},
		"ECDSA":             {reason: "it is cheap already", files: ours.with(cheap), why: "its key is not RSA"},
		"expired":           {reason: "as the files'", files: rsa(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), own: true},
		"addresses": {reason: "a webhook by IP", own: true, files: rsa(func(c *x509.Certificate) {
			c.IPAddresses, c.Subject.Organization, c.KeyUsage = []net.IP{net.IPv4(127, 0, 0, 1).To4()}, []string{"ours"}, 0
		})},
		"no signatures": {reason: "an ECDSA key could do nothing", why: "its key may not sign", files: rsa(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tc.files.publish(t, dir)
			var log []string
			l := newLeaf(dir, funcr.New(func(_, line string) { log = append(log, line) }, funcr.Options{}))
			if err := l.load(); err != nil {
				t.Fatal(err)
			}
			l.refresh()                                                            // and log no more
			client := &tls.Config{InsecureSkipVerify: true, CipherSuites: tc.only} // verified below
			if tc.only != nil {
				client.MaxVersion = tls.VersionTLS12
			}
			got, err := presented(t.Context(), l.listen(t), client)
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			theirs := tc.files.certificate(t)
			if own := !got[0].Equal(theirs); own != tc.own {
				t.Fatalf("%s: got one of its own: %t, want %t; log: %q", tc.reason, own, tc.own, log)
			}
			if tc.own {
				checkMinted(t, got, tc.files)
			}
			if want := order.Or(tc.why, "of the files' authority"); len(log) != 1 || !strings.Contains(log[0], want) {
				t.Errorf("%s: log %q, want one line with %q", tc.reason, log, want)
			}
		})
	}
}

// checkMinted compares a chain that was made with that of the files.
func checkMinted(t *testing.T, got []*x509.Certificate, files keyPairs) {
	t.Helper()
	pair, err := tls.X509KeyPair(files["tls.crt"], files["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	ca, err := tls.X509KeyPair(files["ca.crt"], files["ca.key"])
	if err != nil {
		t.Fatal(err)
	}
	own, theirs := got[0], pair.Leaf
	if key, ok := own.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("got a key %T, want P-256", own.PublicKey)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	if _, err := own.Verify(x509.VerifyOptions{Roots: roots, DNSName: webhookHost, CurrentTime: own.NotBefore.Add(time.Minute)}); err != nil {
		t.Error(err)
	}
	type fields x509.Certificate // as it is equal to none but itself
	want := *theirs
	want.KeyUsage &^= x509.KeyUsageKeyEncipherment
	if ca.Leaf.NotAfter.Before(want.NotAfter) {
		want.NotAfter = ca.Leaf.NotAfter
	}
	// What its key, its serial number and the moment of signing make differ.
	differs := cmpopts.IgnoreFields(fields{}, "Raw", "RawTBSCertificate", "RawSubjectPublicKeyInfo",
		"Signature", "PublicKeyAlgorithm", "PublicKey", "SerialNumber", "Extensions")
	if diff := cmp.Diff(fields(want), fields(*own), differs); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if own.SerialNumber.BitLen() < 64 {
		t.Errorf("got the serial number %s, want a random one", own.SerialNumber)
	}
	var chain [][]byte
	for _, c := range got[1:] {
		chain = append(chain, c.Raw)
	}
	if diff := cmp.Diff(pair.Certificate[1:], chain, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the chain: -want +got\n%s", diff)
	}
}

// TestLeafFollows replaces the files under a server that runs.
func TestLeafFollows(t *testing.T) {
	dir := t.TempDir()
	first, second := rotated(t, 10*time.Hour, 20*time.Hour), rotated(t, 11*time.Hour, 21*time.Hour)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer("127.0.0.1", port, dir, http.NotFoundHandler(), logr.Discard())
	s.leaf.poll = time.Hour // that is not how it learns of new files
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	gauge := prometheus.NewRegistry()
	gauge.MustRegister(expiryOf(dir))
	want := func(what string, files keyPairs, algorithm x509.PublicKeyAlgorithm) {
		t.Helper()
		await(t, what, func() error {
			got, err := presented(t.Context(), address, files.client())
			if err != nil {
				return err
			}
			if got[0].PublicKeyAlgorithm != algorithm {
				return fmt.Errorf("got %s, want %s", got[0].PublicKeyAlgorithm, algorithm)
			}
			end := files.certificate(t).NotAfter
			if !got[0].NotAfter.Equal(end) {
				t.Errorf("%s: it ends %s, want %s", what, got[0].NotAfter, end)
			}
			families, err := gauge.Gather()
			if err != nil {
				return err
			}
			if told := families[0].GetMetric()[0].GetGauge().GetValue(); told != float64(end.Unix()) {
				t.Errorf("%s: the gauge says %f, want %d", what, told, end.Unix())
			}
			return nil
		})
	}
	first.publish(t, dir)
	want("the first files", first, x509.ECDSA)
	second.publish(t, dir)
	want("a new authority", second, x509.ECDSA)
	if _, err := presented(t.Context(), address, first.client()); err == nil {
		t.Error("a client of the old authority still gets through")
	}
	first.with(keyPairs{"ca.key": nil}).publish(t, dir)
	want("files without the authority's key", first, x509.RSA)
}

// TestLeafLate adds the authority's key to files that are read already.
func TestLeafLate(t *testing.T) {
	dir, files := t.TempDir(), rotated(t, 10*time.Hour, 20*time.Hour)
	files.with(keyPairs{"ca.key": nil}).publish(t, dir)
	var log logBuffer
	l := newLeaf(dir, funcr.New(func(_, line string) { _, _ = log.Write([]byte(line)) }, funcr.Options{}))
	l.poll = 50 * time.Millisecond
	if err := l.load(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.follow(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	write := func(key []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "ca.key"), key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What it does when it starts to follow may find half of a key, not the whole.
	write(files["ca.key"][:10])
	await(t, "half of a key to be found", func() error {
		if got := log.String(); !strings.Contains(got, "failed to find any PEM data") {
			return errors.New(got)
		}
		return nil
	})
	write(files["ca.key"])
	address := l.listen(t)
	await(t, "a certificate of its own", func() error {
		got, err := presented(t.Context(), address, files.client())
		if err == nil && got[0].PublicKeyAlgorithm != x509.ECDSA {
			return fmt.Errorf("got %s", got[0].PublicKeyAlgorithm)
		}
		return err
	})
}

// BenchmarkHandshake counts full handshakes, both sides of them in this process,
// with the certificate of the files and with the one made from them.
func BenchmarkHandshake(b *testing.B) {
	files := rotated(b, 10*time.Hour, 20*time.Hour)
	sides := []struct {
		name  string
		files keyPairs
		want  x509.PublicKeyAlgorithm
	}{
		{"rsa", files.with(keyPairs{"ca.key": nil}), x509.RSA},
		{"ecdsa", files, x509.ECDSA},
	}
	for _, side := range sides {
		b.Run(side.name, func(b *testing.B) {
			dir := b.TempDir()
			side.files.publish(b, dir)
			l := newLeaf(dir, logr.Discard())
			if err := l.load(); err != nil {
				b.Fatal(err)
			}
			address, client := l.listen(b), files.client()
			for b.Loop() {
				got, err := presented(b.Context(), address, client)
				if err != nil || got[0].PublicKeyAlgorithm != side.want {
					b.Fatalf("got %v: %v", got, err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
		})
	}
}
