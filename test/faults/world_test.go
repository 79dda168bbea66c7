//go:build linux

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// everythingWarns is a constraint that has every kind and operation sent to the
// webhook, and marks what was judged by a warning.
const everythingWarns = fusegate.DenyEverything + "spec: {enforcementAction: warn}\n"

// noticed is how long it may take until a constraint says that it is not
// enforced any more.
const noticed = 10 * time.Second

// faultWorld is a control plane with nodes to come, on which Fusegate is
// installed as in a cluster and armed for everything. The webhook is reached
// through a Service that the test plays.
type faultWorld struct {
	*testCluster
	admin               kubernetes.Interface
	certs               string // the webhook's folder of certificates
	svc                 *service
	webhook, controller *fusegate.Manager
	backend             string // address of the webhook
	components          map[string]*component
	watched             *watch   // see kubeletsRenew
	kubelets            []string // the nodes
}

// newFaultWorld starts it. Fusegate enforces when it returns.
func newFaultWorld(t *testing.T) *faultWorld {
	t.Helper()
	cp := env.Start(t, controlplane.Options{
		ControllerManager: true, Scheduler: true, Kwok: true,
		Users: []controlplane.User{{Name: fusegate.APIServer, Groups: []string{"system:masters"}}},
	})
	f := &faultWorld{testCluster: &testCluster{fusegate.On(t, cp)}, components: map[string]*component{}}
	t.Cleanup(f.close)
	var err error
	if f.admin, err = kubernetes.NewForConfig(cp.Config(controlplane.Admin)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etcd", "kube-controller-manager", "kube-scheduler", "kwok"} {
		if f.components[name], err = remember(name, cp.Processes()[name], cp.Log(name)); err != nil {
			t.Fatal(err)
		}
	}
	joined := make(chan error, 1)
	go func() { joined <- f.addNodes(t.Context()) }()
	f.installed(t)
	f.policies(t)
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	return f
}

// addNodes makes nodes in the place of those that there were.
func (f *faultWorld) addNodes(ctx context.Context) (err error) {
	f.kubelets, err = f.CP.AddNodes(ctx, nodes)
	return err
}

// hang takes Fusegate away, and has the backend never answer.
func (f *faultWorld) hang(t *testing.T) {
	t.Helper()
	f.end(f.webhook, f.controller)
	if err := f.svc.hang(); err != nil {
		t.Fatal(err)
	}
}

// installed brings up Fusegate as TestInCluster does.
func (f *faultWorld) installed(t *testing.T) {
	t.Helper()
	const port = "9443"
	if out, err := fusegate.Command("install", "--kubeconfig", f.CP.Kubeconfig(controlplane.Admin), "--service-port="+port).CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
	service, err := f.admin.CoreV1().Services(fusegate.Namespace).Get(t.Context(), install.ServiceName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.svc = newService(net.JoinHostPort(service.Spec.ClusterIP, port))
	f.certs = filepath.Join(f.Dir, "certs")
	if err := os.Mkdir(f.certs, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"fusegate-controller", "fusegate-webhook"} {
		f.Account(t, account)
	}
	f.startController(t)
	f.MountSecret(t, f.certs)
	f.startWebhook(t)
	f.controller.AwaitReady(t)
}

// policies has the webhook armed for everything.
func (f *faultWorld) policies(t *testing.T) {
	t.Helper()
	f.create(t, fusegate.Object("v1", "Namespace", "", "tenant-a", ""))
	f.create(t, fusegate.Object("rbac.authorization.k8s.io/v1", "RoleBinding", "tenant-a", "tenant", fmt.Sprintf(`
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %s}]`, controlplane.Tenant)))
	f.create(t, fusegate.DenyAll)
	f.AwaitTemplate(t, "denyall")
	f.apply(t, "test", everythingWarns)
	f.enforced(t)
}

func (f *faultWorld) newController(t *testing.T, name string) *fusegate.Manager {
	t.Helper()
	return fusegate.Serve(t, name, "--kubeconfig="+filepath.Join(f.Dir, "fusegate-controller"),
		"--roles=controller", "--rotate-certs")
}

func (f *faultWorld) startController(t *testing.T) {
	t.Helper()
	f.controller = f.newController(t, "controller")
}

// newWebhook starts a webhook and returns once it is ready.
func (f *faultWorld) newWebhook(t *testing.T, name string) (m *fusegate.Manager, address string) {
	t.Helper()
	port := env.FreePort(t)
	address = fmt.Sprintf("127.0.0.1:%d", port)
	m = fusegate.Serve(t, name, "--kubeconfig="+filepath.Join(f.Dir, "fusegate-webhook"),
		"--roles=webhook", "--cert-dir="+f.certs, "--listen="+address)
	m.AwaitReady(t)
	return m, address
}

// startWebhook starts the webhook behind the Service.
func (f *faultWorld) startWebhook(t *testing.T) {
	t.Helper()
	f.webhook, f.backend = f.newWebhook(t, "webhook")
	f.heal(t)
}

// heal has the Service lead to the webhook again.
func (f *faultWorld) heal(t *testing.T) {
	t.Helper()
	if err := f.svc.forward(f.backend); err != nil {
		t.Fatal(err)
	}
}

// enforced returns once Fusegate says that it enforces, and checks that.
func (f *faultWorld) enforced(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	f.AwaitCondition(t, "denyall/everything", "True", "CanaryAnswered")
	if w := f.write(t.Context()); w.err != nil || !w.judged {
		t.Errorf("the constraint says that it is enforced, and a write was %s", w)
	}
	return time.Since(start)
}

// unenforced returns how long after the start it took until Fusegate said that
// it does not enforce, and checks that this is soon. Two canaries in a row each
// may wait for the webhook's timeout.
func (f *faultWorld) unenforced(t *testing.T, start time.Time, reason string) (took time.Duration, message string) {
	t.Helper()
	message = f.AwaitCondition(t, "denyall/everything", "False", reason)
	if took = time.Since(start); took > noticed+10*time.Second {
		t.Errorf("it took %v until the constraint's condition Enforced was False, want %v", took, noticed)
	}
	return took, message
}

// end kills processes of Fusegate; one that has ended already is left alone.
func (f *faultWorld) end(managers ...*fusegate.Manager) {
	for _, m := range managers {
		if m != nil && !m.Ended() {
			_ = m.Cmd.Process.Signal(syscall.SIGCONT)
			_ = m.End(syscall.SIGKILL)
		}
	}
}

func (f *faultWorld) close() {
	f.end(f.webhook, f.controller)
	f.unwatch()
	for _, c := range f.components {
		c.kill()
	}
	if f.svc != nil {
		f.svc.refuse()
	}
	if err := f.CP.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
	}
}

// answered is what came of a tenant's write.
type answered struct {
	took     time.Duration
	judged   bool
	warnings string
	err      error
}

// String is as in "admitted after 3ms".
func (w answered) String() string {
	how := "admitted unjudged"
	switch {
	case w.err != nil:
		how = "refused (" + w.err.Error() + ")"
	case w.judged:
		how = "judged"
	}
	return how + " after " + round(w.took)
}

// round prints durations as they are compared.
func round(d time.Duration) string {
	if d > time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

const tenantsPath = "/api/v1/namespaces/tenant-a/configmaps"

const tenantsMap = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"mine-"}}`

// write has the tenant create a ConfigMap.
func (f *faultWorld) write(ctx context.Context) answered {
	return f.post(ctx, controlplane.Tenant, tenantsPath, tenantsMap)
}

// post creates an object. It was judged if there is the constraint's warning,
// or its denial, which is the error.
func (f *faultWorld) post(ctx context.Context, user, path, body string) answered {
	return f.request(ctx, user, http.MethodPost, "application/json", path, body, nil)
}

// request makes a write, on a connection of the user's own.
func (f *faultWorld) request(ctx context.Context, user, method, kind, path, body string, more http.Header) answered {
	config := f.CP.Config(user)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return answered{err: err}
	}
	req, err := http.NewRequestWithContext(ctx, method, config.Host+path, strings.NewReader(body))
	if err != nil {
		return answered{err: err}
	}
	maps.Copy(req.Header, more)
	req.Header.Set("Content-Type", kind)
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return answered{took: time.Since(start), err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	w := answered{took: time.Since(start), err: err, warnings: strings.Join(resp.Header.Values("Warning"), "\n")}
	w.judged = strings.Contains(w.warnings, "[everything]")
	if resp.StatusCode >= http.StatusBadRequest {
		w.err = fmt.Errorf("%s: %s", resp.Status, text)
		w.judged = strings.Contains(string(text), "[everything]")
	}
	return w
}

// bypassed makes a number of writes, one after the other, all of which are to be
// admitted unjudged within the limit, and says how many were, and how soon.
func (f *faultWorld) bypassed(t *testing.T, n int, limit time.Duration) string {
	t.Helper()
	return bypasses(t, limit, func(yield func(answered) bool) {
		for range n {
			if !yield(f.write(t.Context())) {
				return
			}
		}
	})
}

// bypasses wants writes to have been admitted unjudged within the limit.
func bypasses(t *testing.T, limit time.Duration, writes iter.Seq[answered]) string {
	t.Helper()
	longest, admitted, n := time.Duration(0), 0, 0
	for w := range writes {
		n++
		if w.err != nil || w.judged || w.took > limit {
			t.Errorf("a tenant's write was %s, want it admitted unjudged within %v", w, limit)
		}
		if w.err == nil {
			admitted++
		}
		longest = max(longest, w.took)
	}
	return fmt.Sprintf("%d of %d writes admitted after %s at most", admitted, n, round(longest))
}

// failedOpen counts calls that failed open, of the policy entry, as the API server counts them.
func (f *faultWorld) failedOpen(t *testing.T) int {
	t.Helper()
	return f.counted(t, "apiserver_admission_webhook_fail_open_count")
}

// counted sums a counter of the API server about the policy entry.
func (f *faultWorld) counted(t *testing.T, metric string) int {
	t.Helper()
	text, err := f.admin.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, metric+"{") || !strings.Contains(line, `name="validation.fusegate.dev"`) {
			continue
		}
		fields := strings.Fields(line)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatal(err)
		}
		total += value
	}
	return int(total)
}

// pass lets the time pass that a fault lasts, or that is between two looks.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// generation counts the changes of the live webhook configuration.
func (f *faultWorld) generation(t *testing.T) int {
	t.Helper()
	return int(f.configuration(t).Generation)
}

// configuration is the live one.
func (f *faultWorld) configuration(t *testing.T) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	live, err := f.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), install.ConfigurationName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return live
}

// stopAPIServer ends it as a crash does: it does not wait for watches, which do not
// end by themselves.
func (f *faultWorld) stopAPIServer(t *testing.T) {
	t.Helper()
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.CP.StopAPIServer(now, 0); err != nil {
		t.Fatal(err)
	}
}

// startAPIServer starts the stopped API server while the backend hangs, and
// wants it ready soon without having asked the backend.
func (f *faultWorld) startAPIServer(t *testing.T, limit time.Duration) (took time.Duration, calls int) {
	t.Helper()
	before, start := f.svc.calls(), time.Now()
	if err := f.CP.StartAPIServer(t.Context(), 0); err != nil {
		if end := f.CP.APIServerEnd(0); end != nil {
			err = errors.Join(err, end)
		}
		t.Fatal(err)
	}
	took, calls = time.Since(start), f.svc.calls()-before
	if took > limit || calls > 0 {
		t.Errorf("the API server was ready after %v, want %v, and called the backend %d times, want none", took, limit, calls)
	}
	return took, calls
}
