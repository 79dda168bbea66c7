//go:build linux

package faults_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/client-go/util/cert"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// atOnce is as long as a write may take that waits for nothing, on a machine
// that is slow. Waiting for the timeout would take 3 s.
const atOnce = 1500 * time.Millisecond

const webhookHost = "fusegate-webhook.fusegate-system.svc"

// backendKilled kills the webhook; the Service is left without endpoints.
func backendKilled(f *faultWorld, t *testing.T) string {
	const writes = 20
	healthy, _ := f.median(t, writes, true)
	f.end(f.webhook)
	f.svc.refuse()
	start, before := time.Now(), f.failedOpen(t)
	gone, admitted := f.median(t, writes, false)
	opened := f.failedOpen(t) - before
	noticed, _ := f.unenforced(t, start, "CanaryAdmitted")
	f.startWebhook(t)
	again := f.enforced(t)
	if added := gone - healthy; added > 50*time.Millisecond || opened < writes {
		t.Errorf("writes took %v longer, want 50 ms, and %d failed open, want %d", added, opened, writes)
	}
	return fmt.Sprintf("%d of %d writes admitted, median %s (%s when judged); the constraint said so after %s; enforced again %s after the webhook was back",
		admitted, writes, round(gone), round(healthy), round(noticed), round(again))
}

// median makes a number of writes and returns the median time, and how many
// were admitted.
func (f *faultWorld) median(t *testing.T, n int, judged bool) (middle time.Duration, admitted int) {
	t.Helper()
	var times []time.Duration
	for range n {
		w := f.write(t.Context())
		if w.err != nil || w.judged != judged || w.took > atOnce {
			t.Errorf("a tenant's write was %s, want judged %t, at once", w, judged)
		}
		if w.err == nil {
			admitted++
		}
		times = append(times, w.took)
	}
	slices.Sort(times)
	return times[len(times)/2], admitted
}

// backendStopped stops the webhook's process, for which the kernel goes on
// accepting connections.
func backendStopped(f *faultWorld, t *testing.T) string {
	if err := f.webhook.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w := f.write(t.Context())
	if w.err != nil || w.judged || w.took > hang {
		t.Errorf("a tenant's write was %s, want it admitted after 3 s", w)
	}
	lease := f.renewLease(t)
	noticed, _ := f.unenforced(t, start, "CanaryAdmitted")
	if err := f.webhook.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	again := f.enforced(t)
	return fmt.Sprintf("a tenant's write was %s, a node's Lease renewed in %s; the constraint said so after %s; enforced again after %s",
		w, round(lease), round(noticed), round(again))
}

// renewLease has a kubelet renew a Lease.
func (f *faultWorld) renewLease(t *testing.T) time.Duration {
	t.Helper()
	body := fmt.Sprintf(`{"spec":{"renewTime":%q}}`, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
	w := f.request(t.Context(), controlplane.Kubelets, http.MethodPatch, "application/merge-patch+json",
		"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"+f.kubelets[0], body, nil)
	if w.err != nil || w.judged || w.took > atOnce {
		t.Errorf("renewing a node's Lease: %s, want it at once", w)
	}
	return w.took
}

// atATime makes a number of writes at the same time.
func (f *faultWorld) atATime(ctx context.Context, n int) []answered {
	writes := make([]answered, n)
	var wg sync.WaitGroup
	for i := range writes {
		wg.Go(func() { writes[i] = f.write(ctx) })
	}
	wg.Wait()
	return writes
}

// together has four writers write at the same time.
func (f *faultWorld) together(t *testing.T) (judged int, longest time.Duration) {
	t.Helper()
	for _, w := range f.atATime(t.Context(), 4) {
		if w.err != nil || w.took > hang {
			t.Errorf("a tenant's write was %s, want it admitted after 3 s", w)
		}
		if w.judged {
			judged++
		}
		longest = max(longest, w.took)
	}
	return judged, longest
}

// nodeKilled loses what is sent over the connections that the API server has
// pooled. There is a webhook elsewhere for new ones.
func nodeKilled(f *faultWorld, t *testing.T) string {
	f.together(t)
	f.svc.stale()
	start, before := time.Now(), f.failedOpen(t)
	lost, longest := 0, time.Duration(0)
	for judged := 0; judged < 4; {
		var took time.Duration
		judged, took = f.together(t)
		lost, longest = lost+4-judged, max(longest, took)
		if time.Since(start) > startLimit {
			t.Fatalf("requests are not judged again after %v", time.Since(start))
		}
	}
	recovered := time.Since(start)
	if longest > hang || recovered > 2*hang {
		t.Errorf("it took %v until all was judged again", recovered)
	}
	opened := f.failedOpen(t) - before
	f.heal(t)
	f.enforced(t)
	return fmt.Sprintf("4 writers at a time: all judged again after %s; %d writes let through after %s at most (%d calls failed open, canaries included)",
		round(recovered), lost, round(longest), opened)
}

// packetsDropped has nobody answer to new connections.
func packetsDropped(f *faultWorld, t *testing.T) string {
	if err := f.svc.drop(); err != nil {
		t.Fatal(err)
	}
	writes := bypasses(t, hang, slices.Values(f.atATime(t.Context(), 2)))
	lease := f.renewLease(t)
	f.heal(t)
	f.enforced(t)
	return fmt.Sprintf("%s, a node's Lease renewed in %s", writes, round(lease))
}

// misanswer puts a server in the place of the webhook that answers as it is
// told, makes five writes, and returns the longest and the failed-open calls.
func (f *faultWorld) misanswer(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(f.certs, "tls.crt"), filepath.Join(f.certs, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(answer)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	defer server.Close()
	before := f.failedOpen(t)
	if err := f.svc.forward(server.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	writes := f.bypassed(t, 5, atOnce)
	opened := f.failedOpen(t) - before
	if opened < 5 {
		t.Errorf("%d calls failed open, want 5", opened)
	}
	f.heal(t)
	return fmt.Sprintf("%s, fail_open_count +%d", writes, opened)
}

func answers500(f *faultWorld, t *testing.T) string {
	out := f.misanswer(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", http.StatusInternalServerError) })
	f.enforced(t)
	return out
}

func panics(f *faultWorld, t *testing.T) string {
	out := f.misanswer(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	f.enforced(t)
	return out + " (the connection just ends; Fusegate's own panics become 500, see pkg/webhook)"
}

// denial answers a review with a denial, for another request if uid is not
// empty, and with so many bytes of message.
func denial(r *http.Request, uid string, size int) []byte {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		return nil
	}
	out := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":false,"status":{"message":"%s"}}}`,
		string(review.Request.UID)+uid, bytes.Repeat([]byte("x"), size))
	return []byte(out)
}

func malformed(f *faultWorld, t *testing.T) string {
	var out []string
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"half an answer", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(denial(r, "", 0)[:60]) }},
		{"a denial of another request", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(denial(r, "x", 0)) }},
		{"8 MiB of nothing", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 8<<20)) }},
	} {
		out = append(out, c.name+": "+f.misanswer(t, c.answer))
	}
	f.enforced(t)
	return strings.Join(out, "; ")
}

// endlessPolicy is a template whose policy takes more than it is granted: time on
// a slow machine, steps on any.
const endlessPolicy = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: endless}
spec:
  crd: {spec: {names: {kind: Endless}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package endless
      violation[{"msg": "x"}] {
        xs := numbers.range(1, 3000)
        i := xs[_]
        j := xs[_]
        sprintf("%v%v", [regex.replace(sprintf("%v", [xs]), "[0-9]", "x"), [i, j]]) == ""
      }
`

const endlessConstraint = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Endless
metadata: {name: endless}
spec: {match: {kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [tenant-a]}}
`

// outOfTime adds a policy that does not come to an end beside the one that does.
func outOfTime(f *faultWorld, t *testing.T) string {
	f.create(t, endlessPolicy)
	f.AwaitTemplate(t, "endless")
	f.create(t, endlessConstraint)
	var w answered
	f.until(t, "the policy to run out of time", func(got answered) bool {
		w = got
		return strings.Contains(w.warnings, "[endless]")
	})
	if w.err != nil || !w.judged || w.took > hang {
		t.Errorf("a tenant's write was %s, with the warnings %q", w, w.warnings)
	}
	f.remove(t, env.Parse(t, endlessPolicy))
	f.until(t, "it to be gone", func(w answered) bool { return w.judged && w.took < atOnce })
	return fmt.Sprintf("a policy that never ends beside one that does: a write was %s by the other, with the warning %s; the process lives. Memory is not limited here",
		w, endlessWarning(w.warnings))
}

// endlessWarning is the text of the warning.
func endlessWarning(warnings string) string {
	for line := range strings.Lines(warnings) {
		if strings.Contains(line, "[endless]") {
			return strings.TrimSpace(strings.TrimPrefix(line, "299 - "))
		}
	}
	return "none"
}

// badCertificate gives the running webhook a certificate that has expired, and
// one of an authority that the API server does not trust.
func badCertificate(f *faultWorld, t *testing.T) string {
	good := map[string][]byte{"tls.crt": []byte(env.Read(t, f.certs, "tls.crt")), "tls.key": []byte(env.Read(t, f.certs, "tls.key"))}
	crt, key, err := cert.GenerateSelfSignedCertKey(webhookHost, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	f.present(t, f.expired(t))
	expired := f.bypassed(t, 5, atOnce)
	noticed, _ := f.unenforced(t, start, "CanaryAdmitted")
	f.present(t, map[string][]byte{"tls.crt": crt, "tls.key": key})
	foreign := f.bypassed(t, 5, atOnce)
	lease := f.renewLease(t)
	f.present(t, good)
	again := f.enforced(t)
	return fmt.Sprintf("expired: %s; of another authority: %s; a node's Lease renewed in %s; the constraint said so after %s, the new file's loading included; enforced again after %s",
		expired, foreign, round(lease), round(noticed), round(again))
}

// present has the webhook use a certificate, and the API server see it.
func (f *faultWorld) present(t *testing.T, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(f.certs, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	block, _ := pem.Decode(files["tls.crt"])
	want, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	env.Await(t, "the webhook to load the certificate", func() error {
		conn, err := tls.Dial("tcp", f.backend, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			return errors.New("it presents another one")
		}
		return nil
	})
	f.heal(t)
}

// expired is a certificate of Fusegate's own authority that was valid until an
// hour ago.
func (f *faultWorld) expired(t *testing.T) map[string][]byte {
	t.Helper()
	authority := f.Secret(t, "fusegate-webhook-ca", "ca.key")
	ca, err := tls.X509KeyPair(authority["ca.crt"], authority["ca.key"])
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(f.certs, "tls.crt"), filepath.Join(f.certs, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: webhookHost}, DNSNames: []string{webhookHost},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.Leaf, pair.PrivateKey.(crypto.Signer).Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// connectionsCut cuts all connections and refuses new ones for 200 ms, five
// times, as a tunnel does whose agents are replaced.
func connectionsCut(f *faultWorld, t *testing.T) string {
	before := f.failedOpen(t)
	l := f.press(t.Context(), 4)
	for range 5 {
		f.svc.refuse()
		pass(t.Context(), 200*time.Millisecond)
		f.heal(t)
		pass(t.Context(), 300*time.Millisecond)
	}
	l.stop(t)
	opened := f.failedOpen(t) - before
	f.enforced(t)
	if l.longest > hang || l.judged == 0 {
		t.Errorf("of %d writes that were judged, or not, the longest took %v", l.judged, l.longest)
	}
	return fmt.Sprintf("%s (fail_open_count +%d)", l, opened)
}

// rollingUpdate replaces the webhook under load as a Deployment does: the new
// pod is ready, the Service leads new connections to it, and then the old one
// is told to stop. It waits for some writes where the manifest's preStop waits 5 s.
func rollingUpdate(f *faultWorld, t *testing.T) string {
	old := f.webhook
	next, address := f.newWebhook(t, "webhook-next")
	before := f.failedOpen(t)
	const some = 200
	l := f.press(t.Context(), 8)
	l.await(t, some)
	f.svc.shift(address)
	l.await(t, some)
	start := time.Now()
	err := old.End(syscall.SIGTERM)
	drained := time.Since(start)
	l.await(t, some)
	f.webhook, f.backend = next, address
	l.stop(t)
	if err != nil {
		t.Error(err)
	}
	opened := f.failedOpen(t) - before
	f.enforced(t)
	if l.unjudged > 8 {
		t.Errorf("%d writes were let through, want at most one for each of 8 writers", l.unjudged)
	}
	return fmt.Sprintf("8 writers: %s (fail_open_count +%d); the old process ended %s after SIGTERM", l, opened, round(drained))
}

// bigAndMany sends what is as big as the API server takes, and thousands of
// pods at once.
func bigAndMany(f *faultWorld, t *testing.T) string {
	value := strings.Repeat("x", 2900<<10)
	big := f.post(t.Context(), controlplane.Admin, "/apis/apps/v1/namespaces/tenant-a/replicasets?dryRun=All", fmt.Sprintf(
		`{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"big"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"v","value":%q}]}]}}}}`, value))
	if big.err != nil || big.took > hang {
		t.Errorf("an object of 2.9 MiB: %.200s", big)
	}
	const pods, at = 1000, 200
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"burst-"},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	before, start, l := f.failedOpen(t), time.Now(), &pressure{}
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for range pods / at {
				l.count(f.post(t.Context(), controlplane.Admin, "/api/v1/namespaces/tenant-a/pods?dryRun=All", pod))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	opened := f.failedOpen(t) - before
	f.enforced(t)
	if l.failed > 0 || l.judged == 0 {
		t.Errorf("%d of %d pods failed, such as: %v", l.failed, pods, l.first)
	}
	return fmt.Sprintf("2.9 MiB %s; %d pods (not 10,000) by %d writers in %s: %s (fail_open_count +%d); clock skew not tried",
		big, pods, at, round(took), l, opened)
}
