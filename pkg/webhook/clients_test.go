package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/gap"
	"github.com/fusegate/fusegate/pkg/policy"
)

// authority signs client certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.issue(t, "authority", true)
	return a
}

func (a *authority) issue(t *testing.T, name string, isCA bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: isCA,
	}
	by, with := a.cert, a.key
	if by == nil {
		by, with = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, with)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) client(t *testing.T, name string) *tls.Certificate {
	cert, key := a.issue(t, name, false)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// lists is a FaultRecorder and a GapRecorder.
type lists struct {
	mu      sync.Mutex
	faults  []*policy.Review
	passed  []gap.Passed
	sources []string
}

func (l *lists) Record(r *policy.Review, _ policy.Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, r)
}

type gapsOf struct{ *lists }

func (l gapsOf) Record(source string, p gap.Passed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passed, l.sources = append(l.passed, p), append(l.sources, source)
}

// TestClients: who presents a certificate of the right authority and name is known, who
// does not is a stranger and answered all the same, and of what strangers send nothing
// comes into a status.
func TestClients(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	pemOf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.cert.Raw})
	clients, err := NewClients(pemOf, []string{"api-server"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewClients([]byte("x"), nil); err == nil {
		t.Error("what holds no certificate is taken")
	}
	fault := policy.Result{Evaluated: 1, Faults: []policy.Fault{{Constraint: policy.Constraint{Kind: "K", Name: "c"}, Cause: policy.CauseTimeout, Err: errors.New("late")}}}
	l := &lists{}
	h, err := New(exempt.Perimeter{}, policyFunc(func() policy.Result { return fault }), nil, noNamespaces{}, Options{Clients: clients, Faults: l})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	defer s.Close()
	cases := map[string]struct {
		certificate *tls.Certificate
		known       bool
	}{
		"Known":          {ours.client(t, "api-server"), true},
		"OtherName":      {ours.client(t, "tenant"), false},
		"OtherAuthority": {others.client(t, "api-server"), false},
		"None":           {nil, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l.faults = nil
			transport := s.Client().Transport.(*http.Transport).Clone()
			if tc.certificate != nil {
				transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tc.certificate, nil }
			}
			resp, err := (&http.Client{Transport: transport}).Post(s.URL+Path, "application/json", strings.NewReader(reviewIn("team-a", 10)))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK || len(l.faults) != 1 {
				t.Fatalf("got %s and %d faults, want it answered", resp.Status, len(l.faults))
			}
			got := l.faults[0]
			if named := got.Namespace == "team-a" && got.Kind.Kind == "Thing"; named != tc.known || got.Operation != policy.Create {
				t.Errorf("recorded as %s of %s in %q, want it named: %v", got.Operation, got.Kind, got.Namespace, tc.known)
			}
			if !tc.known && (got.Namespace != "" || got.Name != "" || got.Kind.Kind != "" || got.UserInfo.Username != "" || got.Object != nil || got.Request != nil) {
				t.Errorf("recorded with what was sent: %+v", got)
			}
		})
	}
	awaitIdle(t, h)
}

// TestStrangersHaveNoReservedLane: a stranger that calls itself a controller is charged
// like any other.
func TestStrangersHaveNoReservedLane(t *testing.T) {
	clients := &Clients{roots: x509.NewCertPool()}
	for _, c := range []*Clients{nil, clients} {
		l := newLimits(exempt.Perimeter{}, c)
		r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(forTenant("team-a")))
		in, err := l.take(t.Context(), httptest.NewRecorder(), r)
		if err != nil {
			t.Fatal(err)
		}
		if stranger := c != nil; in.key.Stranger != stranger || in.key.Reserved == stranger || !in.known {
			t.Errorf("got %+v, want a stranger: %v", in.key, stranger)
		}
		in.release()
	}
}

// TestUnjudgedIsRecorded: whatever ends in an error, a panic, when the client has gone or
// without a verdict of a constraint that denies is counted by its lane and recorded with
// the name and the UID that the object has; what is judged, and what is denied for its
// load, is not.
func TestUnjudgedIsRecorded(t *testing.T) {
	review := sent(t, nil)
	reserved := bytes.Replace(review, []byte(`"username":"ann \"the\" \\ admin"`), []byte(`"username":"system:kube-controller-manager"`), 1)
	if bytes.Equal(review, reserved) {
		t.Fatal("the review has another user")
	}
	late := policy.Result{Faults: []policy.Fault{{Constraint: policy.Constraint{Kind: "K", Name: "c", Action: policy.Deny}, Cause: policy.CauseTimeout, Err: errors.New("late")}}}
	partly := func(action policy.Action, cause policy.FaultCause) policyFunc {
		return func() policy.Result {
			return policy.Result{Evaluated: 1, Faults: []policy.Fault{{Constraint: policy.Constraint{Kind: "K", Name: "c", Action: action}, Cause: cause, Err: errors.New("late")}}}
		}
	}
	denied := partly(policy.Deny, policy.CauseTimeout)()
	denied.Violations = []policy.Violation{{Constraint: policy.Constraint{Kind: "K", Name: "d", Action: policy.Deny}, Message: "no"}}
	long := func(before, text string) []byte {
		out := bytes.Replace(review, []byte(before), []byte(before+text), 1)
		if bytes.Equal(out, review) {
			t.Fatalf("the review has no %s", before)
		}
		return append(out, '{')
	}
	gone, leave := context.WithCancel(t.Context())
	cases := map[string]struct {
		body     []byte
		reviewer policyFunc
		ctx      context.Context //nolint:containedctx // it is the request's
		lane     string          // empty if it is not to be recorded
		name     string
	}{
		"Judged":   {review, func() policy.Result { return policy.Result{} }, t.Context(), "", ""},
		"Late":     {review, func() policy.Result { return late }, t.Context(), laneOrdinary, "web-x1"},
		"Reserved": {reserved, func() policy.Result { return late }, t.Context(), laneReserved, "web-x1"},
		"Panic":    {review, func() policy.Result { panic("boom") }, t.Context(), laneOrdinary, "web-x1"},
		"Broken":   {append(bytes.Clone(review), '{'), nil, t.Context(), laneOrdinary, "web-x1"},
		"Gone":     {review, func() policy.Result { leave(); return policy.Result{} }, gone, laneOrdinary, "web-x1"},
		"Partly":   {review, partly(policy.Deny, policy.CauseTimeout), t.Context(), laneOrdinary, "web-x1"},
		"Unknown":  {review, partly(policy.Deny, policy.CauseMatch), t.Context(), laneOrdinary, "web-x1"},
		"Warned":   {review, partly(policy.Warn, policy.CauseTimeout), t.Context(), "", ""},
		"Waiting":  {review, partly(policy.Deny, policy.CauseInventory), t.Context(), "", ""},
		"Denied":   {review, func() policy.Result { return denied }, t.Context(), "", ""},
		"LongName": {long(`"Pod"},"namespace":"team-a","operation":"CREATE","userInfo":{"username":"`, strings.Repeat("x", 2*maxHead)), nil, t.Context(), laneOrdinary, "web-x1"},
		"Large":    {long(`"spec":{`, `"x":"`+strings.Repeat("x", 2<<20)+`"`), nil, t.Context(), laneOrdinary, "web-x1"},
		"NoHead":   {[]byte(`{"request":{"object":{}}}`), nil, t.Context(), "", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l := &lists{}
			h, err := New(exempt.Perimeter{}, tc.reviewer, nil, noNamespaces{}, Options{Metrics: prometheus.NewRegistry(), Gaps: gapsOf{l}})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequestWithContext(tc.ctx, http.MethodPost, Path, bytes.NewReader(tc.body))
			r.Header.Set("Content-Type", "application/json")
			h.ServeHTTP(httptest.NewRecorder(), r)
			for _, lane := range []string{laneOrdinary, laneReserved} {
				want := 0.0
				if lane == tc.lane {
					want = 1
				}
				var m dto.Metric
				if err := h.metrics.unjudged.WithLabelValues(lane).Write(&m); err != nil || m.GetCounter().GetValue() != want {
					t.Errorf("counted %v in the lane %s, want %v: %v", m.GetCounter().GetValue(), lane, want, err)
				}
			}
			if tc.lane == "" {
				if len(l.passed) > 0 {
					t.Errorf("recorded %+v", l.passed)
				}
				return
			}
			if len(l.passed) != 1 {
				t.Fatalf("recorded %+v", l.passed)
			}
			p := l.passed[0]
			if time.Since(time.Unix(p.At, 0)) > time.Minute {
				t.Errorf("recorded at %d", p.At)
			}
			p.At = 0
			if want := (gap.Passed{Version: "v1", Kind: "Pod", Namespace: "team-a", Name: tc.name, UID: "o-1"}); p != want || l.sources[0] != "192.0.2.1" {
				t.Errorf("recorded %+v from %s, want %+v", p, l.sources[0], want)
			}
			if !idle(h) {
				t.Error("something is still reserved")
			}
		})
	}
}
