package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
)

// Client returns c, but that it reads constraints from what is held instead of
// having c's cache watch them too. Of a kind that is not followed there are none.
func (c *Constraints) Client(of client.Client) client.Client { return reading{of, c} }

type reading struct {
	client.Client
	constraints *Constraints
}

// Get implements client.Reader. Of constraints, no option counts but
// client.UnsafeDisableDeepCopy.
func (r reading) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	out, ok := obj.(*unstructured.Unstructured)
	if !ok || out.GroupVersionKind().Group != engine.ConstraintGroup {
		return r.Client.Get(ctx, key, obj, opts...)
	}
	u, err := r.constraints.Get(out.GetKind(), key.Name)
	if err != nil {
		return err
	}
	o := (&client.GetOptions{}).ApplyOptions(opts)
	out.Object = copied(u, o.UnsafeDisableDeepCopy).Object
	return nil
}

// List implements client.Reader. Of constraints, no option counts but
// client.UnsafeDisableDeepCopy.
func (r reading) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	out, ok := list.(*unstructured.UnstructuredList)
	if !ok || out.GroupVersionKind().Group != engine.ConstraintGroup {
		return r.Client.List(ctx, list, opts...)
	}
	o := (&client.ListOptions{}).ApplyOptions(opts)
	kind := out.GetKind()
	if len(kind) <= len("List") {
		return fmt.Errorf("listing constraints: %q is not the kind of a list", kind)
	}
	all, err := r.constraints.List(kind[:len(kind)-len("List")])
	if err != nil {
		return err
	}
	out.Items = make([]unstructured.Unstructured, 0, len(all))
	for _, u := range all {
		out.Items = append(out.Items, *copied(u, o.UnsafeDisableDeepCopy))
	}
	return nil
}

func copied(u *unstructured.Unstructured, shared *bool) *unstructured.Unstructured {
	if shared != nil && *shared {
		return u
	}
	return u.DeepCopy()
}
