//go:build unix

package controlplane_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/test/controlplane"
)

// testServiceWebhook listens on the cluster IP of a Service and lets the API
// server call it there as an admission webhook.
func testServiceWebhook(t *testing.T, c *controlplane.ControlPlane) {
	if runtime.GOOS != "linux" {
		return // Elsewhere 127.0.0.1 is the only loopback address.
	}
	const port = 18443
	ns := newNamespace(t, c, "webhooks")
	admin := clientOf(t, c, 0, controlplane.Admin)
	service := must[*corev1.Service](t)(admin.CoreV1().Services(ns).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "deny"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: port}}},
	}, metav1.CreateOptions{}))
	ca := serveDenial(t, fmt.Sprintf("%s:%d", service.Spec.ClusterIP, port), "deny."+ns+".svc")
	registerDenial(t, c, ns, port, ca)

	// It takes an API server a moment to see the configuration.
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "any-"}}
	eventually(t, func(ctx context.Context) error {
		_, err := admin.CoreV1().ConfigMaps(ns).Create(ctx, configMap, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "denied by the test") {
			return fmt.Errorf("creating a ConfigMap: got %w, want the webhook's denial", err)
		}
		return nil
	})
}

// serveDenial denies every review at the address and returns the CA to trust.
func serveDenial(t *testing.T, address, host string) []byte {
	t.Helper()
	cert, key, err := certutil.GenerateSelfSignedCertKey(host, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{
		Listener: listener,
		TLS:      &tls.Config{Certificates: []tls.Certificate{must[tls.Certificate](t)(tls.X509KeyPair(cert, key))}},
		Config:   &http.Server{Handler: http.HandlerFunc(deny)},
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return cert
}

func deny(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Result: &metav1.Status{Message: "denied by the test"}}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

func registerDenial(t *testing.T, c *controlplane.ControlPlane, ns string, port int32, ca []byte) {
	t.Helper()
	_, err := clientOf(t, c, 0, controlplane.Admin).AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(),
		&admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "deny"},
			Webhooks: []admissionregistrationv1.ValidatingWebhook{{
				Name: "deny.example.com",
				ClientConfig: admissionregistrationv1.WebhookClientConfig{
					CABundle: ca,
					Service:  &admissionregistrationv1.ServiceReference{Namespace: ns, Name: "deny", Port: ptr.To(port)},
				},
				Rules: []admissionregistrationv1.RuleWithOperations{{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
				}},
				NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: ns}},
				SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
				AdmissionReviewVersions: []string{"v1"},
			}},
		}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
