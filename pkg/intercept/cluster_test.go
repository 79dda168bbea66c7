package intercept_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// tenantGroup is the group that alice is in. It may do everything, and so may
// the users who send samples.
const tenantGroup = "tenants"

// backend is a webhook that allows everything and remembers which entries, by
// the path that each is called under, the requests of alice and of samples'
// users reached.
type backend struct {
	server *httptest.Server

	mu      sync.Mutex
	reached []string
}

func newBackend(t *testing.T) *backend {
	b := &backend{}
	b.server = httptest.NewTLSServer(b)
	t.Cleanup(b.server.Close)
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	if user := review.Request.UserInfo.Username; user == "alice" || strings.Contains(user, "fusegate-sample") {
		b.mu.Lock()
		b.reached = append(b.reached, strings.TrimPrefix(r.URL.Path, "/"))
		b.mu.Unlock()
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// take returns the entries that were reached since it was last called.
func (b *backend) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.reached
	b.reached = nil
	slices.Sort(out)
	return slices.Compact(out)
}

func (b *backend) clientConfig(entry string) admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{
		URL:      ptr.To(b.server.URL + "/" + entry),
		CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.server.Certificate().Raw}),
	}
}

// cell is a control plane and its administrator.
type cell struct {
	admin  kubernetes.Interface
	config *rest.Config
}

func newCell(t *testing.T) cell {
	t.Helper()
	plane := env.Start(t, controlplane.Options{})
	admin := kubernetes.NewForConfigOrDie(plane.Config(controlplane.Admin))
	_, err := admin.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: tenantGroup},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: tenantGroup},
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "fusegate-sample-tenant"},
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts"},
		},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cell{admin, plane.Config(controlplane.Admin)}
}

// as is a client configuration of the request's user.
func (c cell) as(r intercept.Request) *rest.Config {
	out := rest.CopyConfig(c.config)
	out.Impersonate = rest.ImpersonationConfig{UserName: r.User.Username, Groups: r.User.Groups}
	return out
}

// await waits until met, which tells of nothing that failed for good.
func await(t *testing.T, what string, met func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
