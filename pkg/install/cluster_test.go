package install_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// patience bounds every wait for the control plane to do something.
const patience = time.Minute

// shared is the control plane of all tests, started by the first that needs
// one. The tests install cluster-wide things, so they do not run in parallel.
var shared = env.Shared{Options: controlplane.Options{ControllerManager: true}}

func TestMain(m *testing.M) { os.Exit(env.Run(m, &shared)) }

// plane returns the shared control plane. It has a controller manager, so that
// Deployments get pods and namespaces go.
func plane(t *testing.T) *controlplane.ControlPlane {
	t.Helper()
	return shared.Get(t)
}

// fresh returns an administrator's client of a cluster that has nothing of
// Fusegate in it but perhaps its CRDs, and leaves it so after the test.
func fresh(t *testing.T) client.Client {
	t.Helper()
	c := as(t, plane(t).Config(controlplane.Admin))
	t.Cleanup(func() { clean(t, c) })
	return c
}

// blank is fresh without the CRDs, which take a while to go and come: it is for
// tests that are about them.
func blank(t *testing.T) client.Client {
	t.Helper()
	c := as(t, plane(t).Config(controlplane.Admin))
	cleanAll(t, c)
	t.Cleanup(func() { cleanAll(t, c) })
	return c
}

func as(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// server tells the version of the shared control plane.
func server(t *testing.T) discovery.ServerVersionInterface {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(plane(t).Config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// clean removes Fusegate, and all templates, and waits until the next test can
// install it. The context of the test may have ended by then.
func clean(t *testing.T, c client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if _, err := install.Remove(ctx, c, ownConfig(t), install.RemoveOptions{}); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
	err := c.DeleteAllOf(ctx, named("templates.gatekeeper.sh/v1", "ConstraintTemplate", ""))
	if client.IgnoreNotFound(err) != nil && !apimeta.IsNoMatchError(err) {
		t.Errorf("cleaning up: %v", err)
	}
	letGo(ctx, t, c)
}

// cleanAll is clean, and removes the CRDs too.
func cleanAll(t *testing.T, c client.Client) {
	t.Helper()
	clean(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	awaitStorage(ctx, t, c)
	if _, err := install.Remove(ctx, c, ownConfig(t), install.RemoveOptions{Policies: true}); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
	if err := client.IgnoreNotFound(c.Delete(ctx, templatesCRD())); err != nil { // it may be somebody else's
		t.Errorf("cleaning up: %v", err)
	}
	letGo(ctx, t, c)
}

// awaitStorage waits until the objects of every CRD can be listed. A CRD that is deleted
// before that may stay: the API server's finalizer of it gives up on "storage is
// (re)initializing".
func awaitStorage(ctx context.Context, t *testing.T, c client.Client) {
	t.Helper()
	crds := &apiextensionsv1.CustomResourceDefinitionList{}
	if err := c.List(ctx, crds); err != nil {
		t.Fatal(err)
	}
	for _, d := range crds.Items {
		objects := &metav1.PartialObjectMetadataList{}
		objects.SetGroupVersionKind(schema.GroupVersionKind{Group: d.Spec.Group, Version: d.Spec.Versions[0].Name, Kind: d.Spec.Names.Kind})
		await(ctx, t, d.Name+" to be listed", func(ctx context.Context) (bool, error) {
			err := c.List(ctx, objects)
			return err == nil || apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err), nil
		})
	}
}

// letGo waits until CRDs that are being deleted are gone: the next test would find
// them there.
func letGo(ctx context.Context, t *testing.T, c client.Client) {
	t.Helper()
	await(ctx, t, "CRDs to go", func(ctx context.Context) (bool, error) {
		crds := &apiextensionsv1.CustomResourceDefinitionList{}
		err := c.List(ctx, crds)
		leaving := slices.ContainsFunc(crds.Items, func(d apiextensionsv1.CustomResourceDefinition) bool { return d.DeletionTimestamp != nil })
		return !leaving, err
	})
}

// ownConfig installs into a namespace of the test's own, as it takes seconds for
// one to go.
func ownConfig(t *testing.T) config.Config {
	name, _, _ := strings.Cut(strings.ToLower(t.Name()), "/")
	return config.Config{Namespace: "fusegate-" + name, Image: image}
}

// slower differs from ownConfig in the timeout.
func slower(t *testing.T) config.Config {
	c := ownConfig(t)
	c.TimeoutSeconds = 2
	return c
}

// await waits for a condition.
func await(ctx context.Context, t *testing.T, what string, met wait.ConditionWithContextFunc) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, patience, true, met); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

func named(apiVersion, kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetName(name)
	return u
}

func templatesCRD() *unstructured.Unstructured {
	return named("apiextensions.k8s.io/v1", "CustomResourceDefinition", "constrainttemplates.templates.gatekeeper.sh")
}

func webhookConfiguration() *unstructured.Unstructured {
	return named("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", install.ConfigurationName)
}

// exists tells whether the object is there, and fills it if so.
func exists(t *testing.T, c client.Client, u *unstructured.Unstructured) bool {
	t.Helper()
	err := c.Get(t.Context(), client.ObjectKeyFromObject(u), u)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

// apply installs what ownConfig says.
func apply(t *testing.T, c client.Client, o install.ApplyOptions) []install.Change {
	t.Helper()
	changes, err := render(t, ownConfig(t)).Apply(t.Context(), c, o)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return changes
}

// serverSide applies u as another field manager.
func serverSide(t *testing.T, c client.Client, manager string, u *unstructured.Unstructured) {
	t.Helper()
	err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u.DeepCopy()), client.FieldOwner(manager), client.ForceOwnership)
	if err != nil {
		t.Fatalf("applying %s as %s: %v", u.GetName(), manager, err)
	}
}

// asError is errors.As for a pointer that the test needs.
func asError[T error](t *testing.T, err error) T {
	t.Helper()
	var out T
	if !errors.As(err, &out) {
		t.Fatalf("got error %v, want a %T", err, out)
	}
	return out
}
