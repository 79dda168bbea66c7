//go:build linux

package faults_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/env"
)

// create creates an object as admin.
func (f *faultWorld) create(t *testing.T, text string) {
	t.Helper()
	if err := f.Client(t).Create(t.Context(), env.Parse(t, text)); err != nil {
		t.Fatalf("creating %s: %v", text, err)
	}
}

// apply applies an object as admin, for a field manager.
func (f *faultWorld) apply(t *testing.T, manager client.FieldOwner, text string) {
	t.Helper()
	if err := f.Client(t).Apply(t.Context(), client.ApplyConfigurationFromUnstructured(env.Parse(t, text)), manager); err != nil {
		t.Fatalf("applying %s: %v", text, err)
	}
}

// remove deletes an object as admin. It does not wait for what comes of that.
func (f *faultWorld) remove(t *testing.T, u *unstructured.Unstructured) {
	t.Helper()
	if err := f.Client(t).Delete(t.Context(), u, client.PropagationPolicy("Background")); err != nil {
		t.Fatalf("deleting %s %s: %v", u.GetKind(), u.GetName(), err)
	}
}
