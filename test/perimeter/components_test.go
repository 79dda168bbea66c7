package perimeter_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const (
	// leastRolls is how often the Deployment is rolled at least: each time another
	// node is drained, and another of them goes.
	leastRolls = 4
	// busyFor bounds how long it takes until every component has had work: some look
	// for it every 20 seconds.
	busyFor = 4 * time.Minute
)

// TestComponents arms constraints on every kind, and lets the real components
// of a control plane work: Deployments, Jobs, claims and namespaces are rolled on
// nodes played by kwok until each of them has written something, and then each is
// restarted. Everything that arrives at the webhook must be of a sort that policy
// is for.
func TestComponents(t *testing.T) {
	t.Parallel()
	c, r, trail := componentsCluster(t)
	wide := c.widest(t)
	c.armEverything(t)
	t.Run("a tenant is denied", func(t *testing.T) {
		_, stderr, ok := c.Kubectl(t, asTenant, fusegate.Object("v1", "ConfigMap", "forbidden", "mine", ""), "create", "-f", "-")
		if want := fusegate.Denied + "[everything] no CREATE of ConfigMap"; ok || !strings.Contains(stderr, want) {
			t.Errorf("got %q, want %q", stderr, want)
		}
	})
	t.Run("an API server starts", func(t *testing.T) {
		if err := c.CP.StartAPIServer(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the components work", func(t *testing.T) {
		c.componentsWork(t, func() []string {
			missing := slices.Concat(missingSorts(r.requests()), missingSorts(wide.requests()), missingWriters(t, trail))
			t.Logf("there is nothing yet of %q", missing)
			return missing
		})
	})
	t.Run("the components restart", c.componentsRestart)
	t.Run("what arrived", func(t *testing.T) {
		checkArrivals(t, "Fusegate's policy entry and its neighbours", r.requests())
		checkArrivals(t, "the widest webhook", wide.requests())
		checkWrites(t, trail)
	})
}

// componentsCluster starts a control plane with nodes, and Fusegate behind a
// recorder. Every write is in the audit log that it returns.
func componentsCluster(t *testing.T) (c *testCluster, r *recorder, trail string) {
	t.Helper()
	policy, trail := auditFiles(t)
	cp := env.Start(t, controlplane.Options{
		ControllerManager: true, Scheduler: true, Kwok: true, LeaderElection: true, Standby: 1,
		APIServerArgs: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + trail},
	})
	if _, err := cp.AddNodes(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	c, controller, address, certs := inCluster(t, cp)
	port := env.FreePort(t)
	behind := fmt.Sprintf("127.0.0.1:%d", port)
	c.Manager = c.ServeAs(t, "fusegate-webhook", "--roles=webhook", "--cert-dir="+certs, "--listen="+behind)
	r = record(t, address, behind, certs)
	c.Manager.AwaitReady(t)
	controller.AwaitReady(t)
	return c, r, trail
}

// record listens at an address with the webhook's certificate, and hands on to
// the webhook what it has recorded.
func record(t *testing.T, address, webhook, certs string) *recorder {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: webhook})
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(env.Read(t, certs, "ca.crt"))) {
		t.Fatal("there is no authority for the webhook's certificate")
	}
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "fusegate-webhook.fusegate-system.svc"}}
	// The webhook need not run yet; an API server is told so.
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	r := &recorder{next: proxy, failed: t.Errorf}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Second}
	ended := make(chan error, 1)
	go func() {
		ended <- server.ServeTLS(listener, filepath.Join(certs, "tls.crt"), filepath.Join(certs, "tls.key"))
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), env.Patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return r
}

// armEverything makes constraints on every kind: one that warns, so that every
// request is sent and the Deployment can still roll, and one that denies all in
// a namespace.
func (c *testCluster) armEverything(t *testing.T) {
	t.Helper()
	for _, namespace := range []string{"shop", "forbidden"} {
		c.CreateNamespaces(t, namespace)
		c.CreateAll(t, binding("RoleBinding", namespace, "tenant", "cluster-admin", asTenant))
	}
	c.Apply(t, fusegate.DenyAll)
	c.AwaitTemplate(t, "denyall")
	c.Apply(t, denyEverywhere("everywhere", "warn"))
	c.Apply(t, denyEverywhere("everything", "deny", "forbidden"))
	for _, name := range []string{"everywhere", "everything"} {
		c.AwaitCondition(t, "denyall/"+name, "True", "")
	}
	env.Await(t, "a warning in every namespace", func() error {
		if got := c.DryCreate(t, fusegate.Object("v1", "ConfigMap", "shop", "mine", "")); got != "Warning: [everywhere] no CREATE of ConfigMap" {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}

// componentsWork keeps the components busy until none is missing that is to do
// something.
func (c *testCluster) componentsWork(t *testing.T, missing func() []string) {
	c.Apply(t, env.Read(t, "testdata", "components.yaml"))
	c.hasten(t)
	for began, rolls := time.Now(), 0; rolls < leastRolls || len(missing()) > 0; rolls++ {
		if time.Since(began) > busyFor {
			t.Fatalf("after %d rolls there is nothing of %q", rolls, missing())
		}
		c.roll(t, rolls)
		c.churn(t, rolls)
	}
}

// hasten gives components work that would come by itself, but late: a CronJob
// whose last Job is some time ago has one now, and a Pod that is on no node and was
// deleted is collected before those of a node that is gone.
func (c *testCluster) hasten(t *testing.T) {
	t.Helper()
	last := time.Now().Add(-90 * time.Second).UTC().Format(time.RFC3339)
	err := c.Patch(t, asAdmin, "/apis/batch/v1/namespaces/shop/cronjobs/hourly/status", fmt.Sprintf(`{"status":{"lastScheduleTime":%q}}`, last))
	if err != nil {
		t.Fatal(err)
	}
	const unscheduled = `{apiVersion: v1, kind: Pod, metadata: {name: unscheduled, namespace: shop, finalizers: [example.com/held]}, spec: {schedulerName: nobody, containers: [{name: c, image: registry.example.com/web}]}}`
	c.CreateAll(t, unscheduled)
	if err := c.Client(t).Delete(t.Context(), env.Parse(t, unscheduled)); err != nil {
		t.Fatal(err)
	}
}

// roll changes the Deployment's template and waits for its pods.
func (c *testCluster) roll(t *testing.T, n int) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"roll":"%d"}}}}}`, n)
	if err := c.Patch(t, asTenant, "/apis/apps/v1/namespaces/shop/deployments/web", patch); err != nil {
		t.Fatal(err)
	}
	env.AwaitObject(t, c.Client(t), env.Object("apps/v1", "Deployment", "shop", "web"), "the Deployment to roll", func(u *unstructured.Unstructured) error {
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d); err != nil {
			return err
		}
		s := d.Status
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas < *d.Spec.Replicas || s.Replicas > s.UpdatedReplicas || s.AvailableReplicas < s.UpdatedReplicas {
			return fmt.Errorf("status %+v of %d replicas", s, *d.Spec.Replicas)
		}
		return nil
	})
}

// churn makes and removes what the components have to clean up.
func (c *testCluster) churn(t *testing.T, n int) {
	t.Helper()
	namespace, node := fmt.Sprintf("passing-%d", n), fmt.Sprintf("kwok-%d", n%4)
	c.CreateNamespaces(t, namespace)
	c.CreateAll(t, fusegate.Object("apps/v1", "Deployment", namespace, "web", `spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: registry.example.com/web}]}`))
	c.CreateAll(t, fusegate.Object("v1", "Service", namespace, "web", "spec: {selector: {app: web}, ports: [{port: 80}]}"))
	job := fusegate.Object("batch/v1", "Job", "shop", fmt.Sprintf("job-%d", n), "spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: registry.example.com/job}]}}}")
	if _, err := c.Create(t, asTenant, env.Parse(t, job)); err != nil {
		t.Error(err)
	}
	c.Must(t, "", "drain", node, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout="+env.Patience.String())
	c.Must(t, "", "uncordon", node)
	if n == 1 {
		c.DeleteObjects(t, env.Object("v1", "Node", "", "kwok-4"))
	}
	if err := c.Patch(t, asAdmin, "/apis/apps/v1/namespaces/shop/statefulsets/db/scale", fmt.Sprintf(`{"spec":{"replicas":%d}}`, 1+n%2)); err != nil {
		t.Fatal(err)
	}
	if err := c.Client(t).Delete(t.Context(), env.Object("v1", "Namespace", "", namespace)); err != nil {
		t.Fatal(err)
	}
}

// componentsRestart restarts each component, and has the Deployment roll after.
func (c *testCluster) componentsRestart(t *testing.T) {
	if err := c.CP.RestartAPIServer(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		if err := c.CP.Restart(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		// It need not wait for the Lease of its predecessor to run out.
		if err := c.Patch(t, asAdmin, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/"+name, `{"spec":{"holderIdentity":null}}`); err != nil {
			t.Fatal(err)
		}
	}
	c.roll(t, -1)
	env.Await(t, "passing namespaces to be gone", func() error {
		var namespaces corev1.NamespaceList
		err := c.Client(t).List(t.Context(), &namespaces)
		for _, ns := range namespaces.Items {
			if strings.HasPrefix(ns.Name, "passing-") {
				err = errors.Join(err, fmt.Errorf("there is %s", ns.Name))
			}
		}
		return err
	})
}
