package servingcert_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/servingcert"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

const (
	host = "fusegate-webhook.fusegate-system.svc"
	year = 365 * 24 * time.Hour
)

var names = []string{host, host + ".cluster.local"}

// shared is the API server of all tests.
var shared env.Shared

func TestMain(m *testing.M) { os.Exit(env.Run(m, &shared)) }

// world is an installation whose rotation runs by hand, at times of the test's
// choice. After each of its writes it is checked that API servers trust what is
// presented to them.
type world struct {
	client.Client
	t         *testing.T
	clock     *clocktesting.FakeClock
	o         servingcert.RotatorOptions
	rotator   *servingcert.Rotator
	presented []*x509.Certificate // by pods that have not seen the Secret change
	events    []string
	writes    int
	emptied   bool // the caBundle, by somebody else
	failAt    int  // the write, counted from 1, that fails
}

var errDown = errors.New("the API server is down")

func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := client.New(shared.Get(t).Config(controlplane.Admin), client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "certs-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	w := &world{Client: c, t: t, emptied: true, clock: clocktesting.NewFakeClock(time.Now())}
	w.o = servingcert.RotatorOptions{
		Client: w, Live: c,
		Authority:     types.NamespacedName{Namespace: ns.Name, Name: "ca"},
		Serving:       types.NamespacedName{Namespace: ns.Name, Name: "cert"},
		Configuration: ns.Name, Entries: []string{"policy.fusegate.dev", "probe.fusegate.dev", "missing.fusegate.dev"},
		Names: names, Clock: w.clock, Log: logr.Discard(),
		Announce: func(warning bool, reason, message string) {
			w.events = append(w.events, fmt.Sprintf("%t %s: %s", warning, reason, message))
		},
	}
	w.succeed()
	w.create(w.o.Authority)
	w.create(w.o.Serving)
	w.configure(nil)
	return w
}

// succeed replaces the leader.
func (w *world) succeed() { w.rotator = servingcert.NewRotator(w.o) }

func (w *world) create(name types.NamespacedName) {
	w.t.Helper()
	if err := w.Create(w.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) delete(name types.NamespacedName) {
	w.t.Helper()
	if err := w.Delete(w.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}); err != nil {
		w.t.Fatal(err)
	}
}

// configure installs the webhook configuration: two entries of Fusegate's, and one
// that is not.
func (w *world) configure(bundle []byte) {
	w.t.Helper()
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: w.o.Configuration}}
	for _, name := range []string{w.o.Entries[0], "stranger.example.com", w.o.Entries[1]} {
		live.Webhooks = append(live.Webhooks, admissionregistrationv1.ValidatingWebhook{
			Name: name, SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			FailurePolicy: ptr.To(admissionregistrationv1.Ignore),
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "fusegate-system", Name: "fusegate-webhook"}, CABundle: bundle,
			},
		})
	}
	// As earlier versions did: by updates.
	if err := w.Create(w.t.Context(), live, client.FieldOwner(servingcert.FieldManager)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := client.IgnoreNotFound(w.Delete(context.Background(), live)); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) live() *admissionregistrationv1.ValidatingWebhookConfiguration {
	w.t.Helper()
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := w.Get(w.t.Context(), types.NamespacedName{Name: w.o.Configuration}, live); err != nil {
		w.t.Fatal(err)
	}
	return live
}

// tamper has somebody set the caBundle of all entries.
func (w *world) tamper(bundle []byte) {
	w.t.Helper()
	w.emptied = len(bundle) == 0
	live := w.live()
	for i := range live.Webhooks {
		live.Webhooks[i].ClientConfig.CABundle = bundle
	}
	if err := w.Client.Update(w.t.Context(), live, client.FieldOwner("somebody")); err != nil {
		w.t.Fatal(err)
	}
}

// bundles are those of Fusegate's entries.
func (w *world) bundles() [][]byte {
	w.t.Helper()
	var out [][]byte
	for _, entry := range w.live().Webhooks {
		if entry.Name != "stranger.example.com" {
			out = append(out, entry.ClientConfig.CABundle)
		}
	}
	return out
}

// trusted are the certificates in the caBundle of Fusegate's first entry.
func (w *world) trusted() []*x509.Certificate {
	w.t.Helper()
	out, err := cert.ParseCertsPEM(w.bundles()[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// data of a Secret.
func (w *world) data(name types.NamespacedName) map[string][]byte {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.Get(w.t.Context(), name, s); err != nil {
		w.t.Fatal(err)
	}
	return s.Data
}

// put has somebody set keys of a Secret; nil takes one away.
func (w *world) put(name types.NamespacedName, data map[string][]byte) {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.Get(w.t.Context(), name, s); err != nil {
		w.t.Fatal(err)
	}
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	maps.Copy(s.Data, data)
	maps.DeleteFunc(s.Data, func(_ string, text []byte) bool { return text == nil })
	if err := w.Client.Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

// reconcile does so once, without an error.
func (w *world) reconcile() time.Duration {
	w.t.Helper()
	next, err := w.rotator.Reconcile(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return next
}

// leaf is the serving certificate in the Secret, with its key.
func (w *world) leaf() *x509.Certificate {
	w.t.Helper()
	data := w.data(w.o.Serving)
	pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
	if err != nil {
		w.t.Fatal(err)
	}
	return pair.Leaf
}

// authority is the certificate in the authority's Secret.
func (w *world) authority() *x509.Certificate {
	w.t.Helper()
	data := w.data(w.o.Authority)
	pair, err := tls.X509KeyPair(data["ca.crt"], data["ca.key"])
	if err != nil {
		w.t.Fatal(err)
	}
	return pair.Leaf
}

// remain has pods that go on presenting what is in the Secret now.
func (w *world) remain() *x509.Certificate {
	w.t.Helper()
	leaf := w.leaf()
	w.presented = append(w.presented, leaf)
	return leaf
}

// Update implements client.Writer for the rotator.
func (w *world) Update(ctx context.Context, o client.Object, opts ...client.UpdateOption) error {
	return w.write(func() error { return w.Client.Update(ctx, o, opts...) })
}

// Apply implements client.Writer for the rotator.
func (w *world) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	return w.write(func() error { return w.Client.Apply(ctx, o, opts...) })
}

// write fails if it is its turn, and is checked after it was made.
func (w *world) write(do func() error) error {
	if w.writes++; w.writes == w.failAt {
		return errDown
	}
	if err := do(); err != nil {
		return err
	}
	w.check()
	return nil
}

// check that an API server trusts what a pod presents: one that has read the
// Secret by now, and all that have not.
func (w *world) check() {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := client.IgnoreNotFound(w.Get(w.t.Context(), w.o.Serving, s)); err != nil {
		w.t.Fatal(err)
	}
	data, all := s.Data, w.presented
	if pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"]); err == nil {
		all = append(all[:len(all):len(all)], pair.Leaf)
	}
	bundles := w.bundles()
	for _, c := range all {
		at := w.clock.Now()
		if c.NotBefore.After(at) {
			at = c.NotBefore // this process's clock is wrong, API servers' need not be
		}
		for _, bundle := range bundles {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(bundle)
			_, err := c.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: at})
			if err != nil && at.Before(c.NotAfter) && len(bundle) > 0 {
				w.t.Errorf("after write %d: a pod presents the certificate that ends %s, and: %v", w.writes, c.NotAfter, err)
			}
		}
	}
	empty := slices.ContainsFunc(bundles, func(bundle []byte) bool { return len(bundle) == 0 })
	if empty && !w.emptied {
		w.t.Errorf("after write %d: a caBundle is empty", w.writes)
	}
	w.emptied = empty
	if text := data["ca.key"]; len(text) > 0 && w.writes > 2 {
		w.t.Errorf("after write %d: pods see an authority's key", w.writes)
	}
}

// inOrder checks what there has to be in the end, whatever was before.
func (w *world) inOrder() {
	w.t.Helper()
	own, leaf, serving := w.authority(), w.leaf(), w.data(w.o.Serving)
	for _, c := range []*x509.Certificate{own, leaf} {
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			w.t.Errorf("%s: got a key %T, want ECDSA P-256", c.Subject, c.PublicKey)
		}
	}
	if err := leaf.CheckSignatureFrom(own); err != nil {
		w.t.Errorf("the authority did not sign the serving certificate: %v", err)
	}
	for _, name := range names {
		if err := leaf.VerifyHostname(name); err != nil {
			w.t.Error(err)
		}
	}
	bundles, authority := w.bundles(), string(w.data(w.o.Authority)["ca.crt"])
	for _, bundle := range append(bundles, serving["ca.crt"]) {
		if got, want := string(bundle), string(bundles[0]); got != want || !strings.HasPrefix(got, authority) {
			w.t.Errorf("got the bundle\n%s\nwant\n%s\nwith the authority first", got, want)
		}
	}
	if len(serving) != 3 || len(serving["ca.key"]) > 0 {
		w.t.Errorf("got %d keys in the pods' Secret, want ca.crt, tls.crt and tls.key", len(serving))
	}
	writes := w.writes
	if w.reconcile(); w.writes != writes {
		w.t.Errorf("got %d writes with nothing to do", w.writes-writes)
	}
}

// announced reports whether there was an Event with that text.
func (w *world) announced(text string) bool {
	return strings.Contains(strings.Join(w.events, "\n"), text)
}

// former is what earlier versions made: an RSA authority, a certificate of it for
// an RSA key, and one that a pod signed itself with the mounted key.
type former struct {
	secret    map[string][]byte
	authority *x509.Certificate
	leaf, own *x509.Certificate
}

func newFormer(t testing.TB, now time.Time) former {
	t.Helper()
	caKey, leafKey := newRSA(t), newRSA(t)
	caTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(0), Subject: pkix.Name{CommonName: "fusegate-ca", Organization: []string{"fusegate"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(10 * year),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
	}
	ca := signed(t, caTemplate, caTemplate, &caKey.PublicKey, caKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: names,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(year),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	ownKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := former{authority: ca, leaf: signed(t, template, ca, &leafKey.PublicKey, caKey), own: signed(t, template, ca, &ownKey.PublicKey, caKey)}
	f.secret = map[string][]byte{
		"ca.crt": encoded(t, ca), "ca.key": keyOf(t, caKey), "tls.crt": encoded(t, f.leaf), "tls.key": keyOf(t, leafKey),
	}
	return f
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t testing.TB, template, parent *x509.Certificate, public, key any) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func encoded(t testing.TB, c *x509.Certificate) []byte {
	t.Helper()
	text, err := cert.EncodeCertificates(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func keyOf(t testing.TB, key any) []byte {
	t.Helper()
	text, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
