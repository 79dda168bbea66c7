package e2e_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// TestInCluster runs the two roles as two processes with the rights that the
// manifests give to their service accounts, behind the Service, with a
// certificate made by the controller. No kubelet runs here: the test carries the
// Secret to the webhook's folder and listens on the Service's cluster IP.
func TestInCluster(t *testing.T) {
	t.Parallel()
	c := bare(t)
	// Nothing here maps a Service's port to another.
	c.Install(t, "--service-port=9443", "--reports=openreports")
	ip := c.Must(t, "", "get", "service", "-n", "fusegate-system", "fusegate-webhook", "-o", "jsonpath={.spec.clusterIP}")
	certs := filepath.Join(c.Dir, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	controller := c.ServeAs(t, "fusegate-controller", "--roles=controller", "--rotate-certs", "--reports=openreports")
	webhook := c.ServeAs(t, "fusegate-webhook", "--roles=webhook", "--cert-dir="+certs, "--listen="+ip+":9443")
	c.MountSecret(t, certs)
	env.Await(t, "the caBundle", func() error {
		got := c.Must(t, "", "get", "validatingwebhookconfiguration", "fusegate", "-o", "jsonpath={.webhooks[*].clientConfig.caBundle}")
		if len(strings.Fields(got)) != 3 {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	webhook.AwaitReady(t)
	controller.AwaitReady(t)
	env.Await(t, "the serving certificate", func() error {
		got, err := fusegate.Presented(t, ip+":9443", filepath.Join(certs, "ca.crt"), "fusegate-webhook.fusegate-system.svc")
		if err == nil && got.PeerCertificates[0].PublicKeyAlgorithm != x509.ECDSA {
			return fmt.Errorf("got %s", got.PeerCertificates[0].PublicKeyAlgorithm)
		}
		return err
	})

	c.Must(t, fusegate.LabelTemplate("PodLabels", "missing"), "apply", "-f", "-")
	c.AwaitTemplate(t, "podlabels")
	c.Must(t, fusegate.Constraint("PodLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`), "apply", "-f", "-")
	c.AwaitCondition(t, "podlabels/owner", "True", "CanaryAnswered")
	c.AwaitCreate(t, fusegate.ConfigMap("default", "bare"), fusegate.Denied+"[owner] missing label owner")
	env.Await(t, "entries of both processes", func() error {
		if got := c.Status(t, "podlabels/owner").Pods(); len(got) != 2 {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	c.Must(t, "", "wait", "--for=condition=Audited", "podlabels/owner", "--timeout="+env.Patience.String())
	c.Must(t, "", "wait", "--for=condition=Complete", "ar/cluster", "--timeout="+env.Patience.String())
	c.awaitReports(t)
	c.referential(t)
	c.Must(t, "", "delete", "constrainttemplate", "podlabels")
	c.AwaitCreate(t, fusegate.ConfigMap("default", "bare"), "")
	for _, m := range []*fusegate.Manager{controller, webhook} {
		if log := m.Log.String(); strings.Contains(log, "forbidden") {
			t.Errorf("%s lacks a right:\n%s", m.Name, log)
		}
	}
}

// awaitReports waits for report objects, written with the rights that install
// gives for them, and described by an annotation.
func (c *testCluster) awaitReports(t *testing.T) {
	t.Helper()
	c.Must(t, "", "wait", "--for=condition=Reported", "ar/cluster", "--timeout="+env.Patience.String())
	c.Must(t, "", "annotate", "podlabels/owner", "fusegate.dev/severity=low")
	env.Await(t, "a report", func() error {
		got := c.Must(t, "", "get", "reports.openreports.io", "-n", "default", "-o",
			"jsonpath={range .items[*]}{.scope.kind}/{.scope.name} {.results[*].policy} {.results[*].severity}{end}")
		if want := "ConfigMap/kube-root-ca.crt PodLabels/owner low"; got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}
