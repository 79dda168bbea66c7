package e2e_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// TestInCluster runs the two roles as two processes with the rights that the
// manifests give to their service accounts, behind the Service, with a
// certificate made by the controller. No kubelet runs here: the test carries the
// Secret to the webhook's folder and listens on the Service's cluster IP.
func TestInCluster(t *testing.T) {
	c := bare(t)
	// Nothing here maps a Service's port to another.
	c.Install(t, "--service-port=9443", "--reports=openreports")
	var service corev1.Service
	if err := c.Client(t).Get(t.Context(), client.ObjectKey{Namespace: fusegate.Namespace, Name: "fusegate-webhook"}, &service); err != nil {
		t.Fatal(err)
	}
	ip := service.Spec.ClusterIP
	certs := filepath.Join(c.Dir, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	controller := c.ServeAs(t, "fusegate-controller", "--roles=controller", "--rotate-certs", "--reports=openreports")
	webhook := c.ServeAs(t, "fusegate-webhook", "--roles=webhook", "--cert-dir="+certs, "--listen="+ip+":9443")
	c.MountSecret(t, certs)
	env.AwaitObject(t, c.Client(t), env.Object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", "fusegate"), "the caBundle", func(u *unstructured.Unstructured) error {
		entries, _, _ := unstructured.NestedSlice(u.Object, "webhooks")
		for _, e := range entries {
			if bundle, _, _ := unstructured.NestedString(e.(map[string]any), "clientConfig", "caBundle"); bundle == "" {
				return fmt.Errorf("%v has none", e)
			}
		}
		if len(entries) != 3 {
			return fmt.Errorf("there are %d entries", len(entries))
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

	c.Apply(t, fusegate.LabelTemplate("PodLabels", "missing"))
	c.AwaitTemplate(t, "podlabels")
	c.Apply(t, fusegate.Constraint("PodLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`))
	c.AwaitCondition(t, "podlabels/owner", "True", "CanaryAnswered")
	c.AwaitCreate(t, fusegate.ConfigMap("default", "bare"), fusegate.Denied+"[owner] missing label owner")
	c.Await(t, "podlabels/owner", "entries of both processes", func(u *unstructured.Unstructured) error {
		if got := fusegate.StatusOf(t, u).Pods(); len(got) != 2 {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	c.Await(t, "podlabels/owner", "the audit", func(u *unstructured.Unstructured) error {
		return fusegate.StatusOf(t, u).Condition("Audited", "True", "")
	})
	c.awaitReportIs(t, "Complete")
	c.awaitReports(t)
	c.referential(t)
	c.restricted(t, webhook)
	c.Delete(t, "constrainttemplate/podlabels")
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
	c.awaitReportIs(t, "Reported")
	if err := c.Patch(t, controlplane.Admin, "/apis/constraints.gatekeeper.sh/v1beta1/podlabels/owner", `{"metadata": {"annotations": {"fusegate.dev/severity": "low"}}}`); err != nil {
		t.Fatal(err)
	}
	env.Await(t, "a report", func() error {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion("openreports.io/v1alpha1")
		list.SetKind("ReportList")
		if err := c.Client(t).List(t.Context(), list, client.InNamespace("default")); err != nil {
			return err
		}
		got := ""
		for _, u := range list.Items {
			kind, _, _ := unstructured.NestedString(u.Object, "scope", "kind")
			name, _, _ := unstructured.NestedString(u.Object, "scope", "name")
			got += kind + "/" + name
			results, _, _ := unstructured.NestedSlice(u.Object, "results")
			for _, r := range results {
				got += fmt.Sprintf(" %v %v", r.(map[string]any)["policy"], r.(map[string]any)["severity"])
			}
		}
		if want := "ConfigMap/kube-root-ca.crt PodLabels/owner low"; got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}
