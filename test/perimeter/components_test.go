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

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const (
	// leastRolls is how often the Deployment is rolled at least: each time another
	// node is drained, and another of them goes.
	leastRolls = 4
	// busyFor bounds how long it takes until every component has had work: a
	// CronJob's first Job comes after up to a minute.
	busyFor = 4 * time.Minute
)

// TestComponents arms constraints on every kind, and lets the real components
// of a control plane work: Deployments, Jobs, claims and namespaces are rolled on
// nodes played by kwok until each of them has written something, and then each is
// restarted. Everything that arrives at the webhook must be of a sort that policy
// is for.
func TestComponents(t *testing.T) {
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
			return slices.Concat(missingSorts(r.requests()), missingSorts(wide.requests()), missingWriters(t, trail))
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
		c.Must(t, "", "create", "namespace", namespace)
		c.Must(t, "", "create", "rolebinding", "tenant", "--clusterrole=cluster-admin", "--user="+asTenant, "-n", namespace)
	}
	c.Must(t, fusegate.DenyAll, "apply", "-f", "-")
	c.AwaitTemplate(t, "denyall")
	c.Must(t, denyEverywhere("everywhere", "warn"), "apply", "-f", "-")
	c.Must(t, denyEverywhere("everything", "deny", "forbidden"), "apply", "-f", "-")
	for _, name := range []string{"everywhere", "everything"} {
		c.Must(t, "", "wait", "--for=condition=Enforced", "denyall/"+name, "--timeout="+env.Patience.String())
	}
	env.Await(t, "a warning in every namespace", func() error {
		_, stderr, ok := c.Kubectl(t, asAdmin, fusegate.Object("v1", "ConfigMap", "shop", "mine", ""), "create", "--dry-run=server", "-f", "-")
		if !ok || !strings.Contains(stderr, "Warning: [everywhere] no CREATE of ConfigMap") {
			return fmt.Errorf("got %q", stderr)
		}
		return nil
	})
}

// componentsWork keeps the components busy until none is missing that is to do
// something.
func (c *testCluster) componentsWork(t *testing.T, missing func() []string) {
	c.Must(t, env.Read(t, "testdata", "components.yaml"), "apply", "-f", "-")
	for began, rolls := time.Now(), 0; rolls < leastRolls || len(missing()) > 0; rolls++ {
		if time.Since(began) > busyFor {
			t.Fatalf("after %d rolls there is nothing of %q", rolls, missing())
		}
		c.roll(t, rolls)
		c.churn(t, rolls)
	}
}

// roll changes the Deployment's template and waits for its pods.
func (c *testCluster) roll(t *testing.T, n int) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"roll":"%d"}}}}}`, n)
	if _, stderr, ok := c.Kubectl(t, asTenant, "", "patch", "deployment", "-n", "shop", "web", "-p", patch); !ok {
		t.Fatal(stderr)
	}
	c.Must(t, "", "rollout", "status", "-n", "shop", "deployment/web", "--timeout="+env.Patience.String())
}

// churn makes and removes what the components have to clean up.
func (c *testCluster) churn(t *testing.T, n int) {
	t.Helper()
	namespace, node := fmt.Sprintf("passing-%d", n), fmt.Sprintf("kwok-%d", n%4)
	c.Must(t, "", "create", "namespace", namespace)
	c.Must(t, "", "create", "deployment", "-n", namespace, "web", "--image=registry.example.com/web", "--replicas=2")
	c.Must(t, "", "expose", "deployment", "-n", namespace, "web", "--port=80")
	if _, stderr, ok := c.Kubectl(t, asTenant, "", "create", "job", "-n", "shop", fmt.Sprintf("job-%d", n), "--image=registry.example.com/job"); !ok {
		t.Error(stderr)
	}
	c.Must(t, "", "drain", node, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout="+env.Patience.String())
	c.Must(t, "", "uncordon", node)
	if n == 1 {
		c.Must(t, "", "delete", "node", "kwok-4")
	}
	c.Must(t, "", "scale", "statefulset", "-n", "shop", "db", fmt.Sprintf("--replicas=%d", 1+n%2))
	c.Must(t, "", "delete", "namespace", namespace, "--wait=false")
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
	}
	c.roll(t, -1)
	env.Await(t, "passing namespaces to be gone", func() error {
		if got := c.Must(t, "", "get", "namespaces", "-o", "name"); strings.Contains(got, "passing-") {
			return fmt.Errorf("there are %q", strings.Fields(got))
		}
		return nil
	})
}
