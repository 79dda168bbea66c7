package perimeter_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// recorder is a webhook, or stands before one, and remembers what it is sent.
type recorder struct {
	// next answers; without it every request is allowed.
	next http.Handler
	// failed is told what could not be recorded.
	failed func(format string, args ...any)

	mu   sync.Mutex
	seen []admissionv1.AdmissionRequest
}

// ServeHTTP records a review and has it answered.
func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	review, body, err := readReview(req)
	if err != nil {
		r.failed("recording a review: %v", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.seen = append(r.seen, *review.Request)
	r.mu.Unlock()
	if r.next != nil {
		req.Body = body
		r.next.ServeHTTP(w, req)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		r.failed("answering a review: %v", err)
	}
}

// readReview reads the review that a request carries, and returns it with a
// body that can be read again.
func readReview(req *http.Request) (*admissionv1.AdmissionReview, io.ReadCloser, error) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, nil, err
	}
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(text, review); err != nil {
		return nil, nil, err
	}
	if review.Request == nil {
		return nil, nil, errors.New("there is no request in it")
	}
	// Objects are of no interest here, and there are many.
	brief := *review.Request
	brief.Object.Raw, brief.OldObject.Raw = nil, nil
	review.Request = &brief
	return review, io.NopCloser(bytes.NewReader(text)), nil
}

// requests are those seen so far.
func (r *recorder) requests() []admissionv1.AdmissionRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]admissionv1.AdmissionRequest(nil), r.seen...)
}

// arrivals counts the requests seen so far, but for Fusegate's canaries, which
// its policy entry is meant to be sent.
func (r *recorder) arrivals() int {
	n := 0
	for _, req := range r.requests() {
		if req.Resource.Group != "fusegate.dev" {
			n++
		}
	}
	return n
}

// widest installs a webhook of the test's that is sent every operation on every
// resource and every subresource, but for what Fusegate's perimeter keeps away.
// Fusegate's own rules never ask for so much, so this is what shows that it is
// the perimeter which keeps the control plane out of it.
func (c *testCluster) widest(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{failed: t.Errorf}
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(r)
	pair, err := tls.X509KeyPair(crt, key)
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	text, err := json.Marshal(wideEntry(server.URL, crt))
	if err != nil {
		t.Fatal(err)
	}
	c.CreateAll(t, string(text))
	probe := fusegate.Object("v1", "ConfigMap", "default", "widest", "")
	env.Await(t, "the widest webhook to be called", func() error {
		c.DryCreate(t, probe)
		if r.arrivals() == 0 {
			return errors.New("no request has arrived")
		}
		return nil
	})
	return r
}

func wideEntry(url string, ca []byte) *admissionregistrationv1.ValidatingWebhookConfiguration {
	var p exempt.Perimeter
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: "widest"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:                    "widest.corpus.example.com",
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca},
			FailurePolicy:           ptr.To(admissionregistrationv1.Ignore),
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          ptr.To(int32(1)),
			AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector:       p.NamespaceSelector(),
			MatchConditions:         p.MatchConditions(exempt.PolicyEntry),
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*/*"}},
			}},
		}},
	}
}
