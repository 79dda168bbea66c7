package fusegate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// tester owns the fields that Apply writes.
const tester = "fusegate-test"

// Apply writes the objects of a text as an administrator, by server-side apply:
// what an Apply before has written and this one does not say goes. A kind whose
// CRD has just been made may take a moment to be served.
func (c *Cluster) Apply(t testing.TB, text string) {
	t.Helper()
	c.ApplyAs(t, controlplane.Admin, text)
}

// ApplyAs is Apply as a user.
func (c *Cluster) ApplyAs(t testing.TB, user, text string) {
	t.Helper()
	for _, u := range Documents(t, text) {
		c.served(t, u, func() error { return c.TryApply(t, user, u) })
	}
}

// TryApply is ApplyAs of one object, once.
func (c *Cluster) TryApply(t testing.TB, user string, u *unstructured.Unstructured) error {
	t.Helper()
	object := client.ApplyConfigurationFromUnstructured(u.DeepCopy())
	return c.as(t, user).Apply(t.Context(), object, client.FieldOwner(tester), client.ForceOwnership)
}

// CreateAll creates the objects of a text as an administrator.
func (c *Cluster) CreateAll(t testing.TB, text string) {
	t.Helper()
	c.CreateObjects(t, Documents(t, text)...)
}

// CreateObjects creates objects as an administrator.
func (c *Cluster) CreateObjects(t testing.TB, objects ...*unstructured.Unstructured) {
	t.Helper()
	for _, u := range objects {
		c.served(t, u, func() error {
			_, err := c.Create(t, controlplane.Admin, u.DeepCopy())
			return err
		})
	}
}

// CreateNamespaces creates namespaces as an administrator.
func (c *Cluster) CreateNamespaces(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		c.CreateAll(t, Object("v1", "Namespace", "", name, ""))
	}
}

// served repeats a request as long as it fails because of what comes by itself:
// that the object's kind is served, and that its namespace has a service account.
func (c *Cluster) served(t testing.TB, u *unstructured.Unstructured, request func() error) {
	t.Helper()
	what := fmt.Sprintf("%s %s to be written", u.GetKind(), u.GetName())
	env.Await(t, what, func() error {
		err := request()
		var undiscovered *apiutil.ErrResourceDiscoveryFailed
		early := meta.IsNoMatchError(err) || errors.As(err, &undiscovered) || apierrors.IsNotFound(err) ||
			apierrors.IsForbidden(err) && strings.Contains(err.Error(), "error looking up service account")
		if err != nil && !early {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		return err
	})
}

// Delete deletes templates, constraints or reports, as in "labels/owner", as an
// administrator, and returns once they are gone.
func (c *Cluster) Delete(t testing.TB, names ...string) {
	t.Helper()
	var objects []*unstructured.Unstructured
	for _, name := range names {
		u, err := c.named(t, name)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, u)
	}
	c.DeleteObjects(t, objects...)
}

// DeleteObjects deletes objects, of which only kind, namespace and name count, as
// an administrator, and returns once they are gone.
func (c *Cluster) DeleteObjects(t testing.TB, objects ...*unstructured.Unstructured) {
	t.Helper()
	for _, u := range objects {
		if err := c.Client(t).Delete(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range objects {
		env.Await(t, fmt.Sprintf("%s %s to be gone", u.GetKind(), u.GetName()), func() error {
			err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(u), u.DeepCopy())
			if err == nil {
				return errors.New("it is there")
			}
			return client.IgnoreNotFound(err)
		})
	}
}

// DropTemplates has templates deleted when the test ends, if they are there then.
// Nobody waits for them to go.
func (c *Cluster) DropTemplates(t testing.TB, names ...string) {
	t.Helper()
	t.Cleanup(func() {
		for _, name := range names {
			u, err := c.named(t, "constrainttemplate/"+name)
			if err == nil {
				err = c.Client(t).Delete(context.WithoutCancel(t.Context()), u)
			}
			if client.IgnoreNotFound(err) != nil {
				t.Errorf("deleting the template %s: %v", name, err)
			}
		}
	})
}

// Documents are the objects of a text, which is YAML.
func Documents(t testing.TB, text string) (out []*unstructured.Unstructured) {
	t.Helper()
	for r := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text))); ; {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if u := env.Parse(t, string(document)); len(u.Object) > 0 {
			out = append(out, u)
		}
	}
}
