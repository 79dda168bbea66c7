package app

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/fusegate/fusegate/test/controlplane"
)

// TestInCluster runs the two roles as two processes with the rights that the
// manifests give to their service accounts, behind the Service, with a
// certificate made by the controller. No kubelet runs here: the test carries the
// Secret to the webhook's folder and listens on the Service's cluster IP.
func TestInCluster(t *testing.T) {
	cp, err := controlplane.Start(t.Context(), controlplane.Options{ControllerManager: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &testCluster{cp: cp, dir: t.TempDir()}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	// Nothing here maps a Service's port to another.
	if out, err := command("install", "--kubeconfig", cp.Kubeconfig(controlplane.Admin), "--service-port=9443", "--reports=openreports").CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
	ip := c.must(t, "", "get", "service", "-n", "fusegate-system", "fusegate-webhook", "-o", "jsonpath={.spec.clusterIP}")
	certs := filepath.Join(c.dir, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	controller := c.serveAs(t, "fusegate-controller", "--roles=controller", "--rotate-certs", "--reports=openreports")
	webhook := c.serveAs(t, "fusegate-webhook", "--roles=webhook", "--cert-dir="+certs, "--listen="+ip+":9443")
	c.mountSecret(t, certs)
	await(t, "the caBundle", func() error {
		got := c.must(t, "", "get", "validatingwebhookconfiguration", "fusegate", "-o", "jsonpath={.webhooks[*].clientConfig.caBundle}")
		if len(strings.Fields(got)) != 3 {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	webhook.awaitReady(t)
	controller.awaitReady(t)
	await(t, "the serving certificate", func() error {
		got, err := presented(t.Context(), ip+":9443", keyPairs{"ca.crt": []byte(read(t, certs, "ca.crt"))}.client())
		if err == nil && got[0].PublicKeyAlgorithm != x509.ECDSA {
			return fmt.Errorf("got %s", got[0].PublicKeyAlgorithm)
		}
		return err
	})

	c.must(t, labelTemplate("PodLabels", "missing"), "apply", "-f", "-")
	c.awaitTemplate(t, "podlabels")
	c.must(t, constraint("PodLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`), "apply", "-f", "-")
	c.awaitCondition(t, "podlabels/owner", "True", "CanaryAnswered")
	c.awaitCreate(t, configMap("default", "bare"), denied+"[owner] missing label owner")
	await(t, "entries of both processes", func() error {
		if got := c.status(t, "podlabels/owner").pods(); len(got) != 2 {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	c.must(t, "", "wait", "--for=condition=Audited", "podlabels/owner", "--timeout="+patience.String())
	c.must(t, "", "wait", "--for=condition=Complete", "ar/cluster", "--timeout="+patience.String())
	c.awaitReports(t)
	c.referential(t)
	c.must(t, "", "delete", "constrainttemplate", "podlabels")
	c.awaitCreate(t, configMap("default", "bare"), "")
	for _, m := range []*testManager{controller, webhook} {
		if log := m.log.String(); strings.Contains(log, "forbidden") {
			t.Errorf("%s lacks a right:\n%s", m.name, log)
		}
	}
}

// awaitReports waits for report objects, written with the rights that install
// gives for them, and described by an annotation.
func (c *testCluster) awaitReports(t *testing.T) {
	t.Helper()
	c.must(t, "", "wait", "--for=condition=Reported", "ar/cluster", "--timeout="+patience.String())
	c.must(t, "", "annotate", "podlabels/owner", severityAnnotation+"=low")
	await(t, "a report", func() error {
		got := c.must(t, "", "get", "reports.openreports.io", "-n", "default", "-o",
			"jsonpath={range .items[*]}{.scope.kind}/{.scope.name} {.results[*].policy} {.results[*].severity}{end}")
		if want := "ConfigMap/kube-root-ca.crt PodLabels/owner low"; got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// serveAs starts fusegate serve with the identity of a service account.
func (c *testCluster) serveAs(t *testing.T, account string, args ...string) *testManager {
	t.Helper()
	config := c.cp.Config(controlplane.Admin)
	token := strings.TrimSpace(c.must(t, "", "create", "token", "-n", "fusegate-system", account))
	file := filepath.Join(c.dir, account)
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"a": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "a"}},
		CurrentContext: "x",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	m := c.serve(t, account, append([]string{"--kubeconfig=" + file}, args...)...)
	t.Cleanup(func() {
		if err := m.end(os.Interrupt); err != nil {
			t.Error(err)
		}
	})
	return m
}
