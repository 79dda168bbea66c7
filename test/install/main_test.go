package install_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

func TestMain(m *testing.M) { os.Exit(fusegate.Main(m)) }

// testCluster is a cluster with what the tests here do with it.
type testCluster struct{ *fusegate.Cluster }

// bare starts a control plane without Fusegate, for one test.
func bare(t *testing.T) *testCluster {
	t.Helper()
	return &testCluster{fusegate.Bare(t)}
}

// apply applies objects of YAML, as nobody in particular.
func (c *testCluster) apply(t *testing.T, objects string) {
	t.Helper()
	c.applyAs(t, "test", objects)
}

// applyAs applies objects as a field manager, as an earlier version did.
func (c *testCluster) applyAs(t *testing.T, manager, objects string) {
	t.Helper()
	if err := c.tryApply(t, manager, objects); err != nil {
		t.Fatal(err)
	}
}

func (c *testCluster) tryApply(t *testing.T, manager, objects string) error {
	t.Helper()
	var errs []error
	for text := range strings.SplitSeq("\n"+objects, "\n---\n") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		o := client.ApplyConfigurationFromUnstructured(env.Parse(t, text))
		errs = append(errs, c.Client(t).Apply(t.Context(), o, client.FieldOwner(manager), client.ForceOwnership))
	}
	return errors.Join(errs...)
}

// named lists the objects of some kinds that an installation has, by kind and name.
func (c *testCluster) named(t *testing.T, kinds []schema.GroupVersionKind, o ...client.ListOption) (out []string) {
	t.Helper()
	for _, gvk := range kinds {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(gvk)
		if err := c.Client(t).List(t.Context(), list, o...); err != nil {
			t.Fatal(err)
		}
		for _, item := range list.Items {
			out = append(out, gvk.Kind+"/"+item.Name)
		}
	}
	return out
}

var (
	namespaces  = corev1.SchemeGroupVersion.WithKind("Namespace")
	definitions = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
)

// settings are those that are installed.
func (c *testCluster) settings(t *testing.T) string {
	t.Helper()
	cm := &corev1.ConfigMap{}
	if err := c.Client(t).Get(t.Context(), client.ObjectKey{Namespace: fusegate.Namespace, Name: install.ConfigMapName}, cm); err != nil {
		t.Fatal(err)
	}
	return cm.Data[install.ConfigKey]
}

// rules are the resources in those of each entry of the webhook configuration, as in
// name=pods; nil if there is none.
func (c *testCluster) rules(t *testing.T) (out []string) {
	t.Helper()
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	err := c.Client(t).Get(t.Context(), client.ObjectKey{Name: install.ConfigurationName}, live)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	for _, w := range live.Webhooks {
		var resources []string
		for _, r := range w.Rules {
			resources = append(resources, r.Resources...)
		}
		out = append(out, w.Name+"="+strings.Join(resources, ","))
	}
	return out
}
