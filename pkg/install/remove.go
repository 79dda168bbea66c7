package install

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// removeTimeout bounds the removal of a webhook configuration that is not
// safe.
const removeTimeout = 10 * time.Second

// RemoveOptions of Remove. The zero value works.
type RemoveOptions struct {
	// Policies removes the CRD of templates too, and with it every template,
	// every kind of constraint and every constraint.
	Policies bool
	// DryRun asks the API server what would go, and removes nothing.
	DryRun bool
	// Progress receives each change as it is made; it may be nil.
	Progress func(Change)
}

// Remove takes Fusegate out of the cluster, whether it was installed with a
// Service or a URL: the webhook configuration first, so that nothing waits for
// pods that are gone, and then the rest in the reverse order of Apply. Of the
// configuration only the namespace counts.
//
// What is not there is no error and not among the changes. Objects that do
// not bear Fusegate's label are kept, except for the webhook configuration,
// which is Fusegate's by its name. The namespace goes with all that is in it;
// Remove does not wait for that.
func Remove(ctx context.Context, c client.Client, cfg Config, o RemoveOptions) ([]Change, error) {
	objects, err := removable(cfg)
	if err != nil {
		return nil, fmt.Errorf("listing what to remove: %w", err)
	}
	var changes []Change
	for _, u := range objects {
		change, err := remove(ctx, c, refOf(u), o)
		if err != nil {
			return changes, err
		}
		if change == nil {
			continue
		}
		changes = append(changes, *change)
		if o.Progress != nil {
			o.Progress(*change)
		}
	}
	return changes, nil
}

// removable lists all that can have been installed, in the order of removal:
// that of the plan, backwards, which has the webhook configuration first.
func removable(cfg Config) ([]*unstructured.Unstructured, error) {
	plan, err := Render(Config{Namespace: cfg.Namespace, Image: product})
	if err != nil {
		return nil, err
	}
	out := slices.Clone(plan.Objects)
	slices.Reverse(out)
	return out, nil
}

// remove deletes one object. It returns nil if there is none.
func remove(ctx context.Context, c client.Client, ref Ref, o RemoveOptions) (*Change, error) {
	live, err := get(ctx, c, ref)
	if live == nil || err != nil {
		return nil, err
	}
	if ref.Kind == crdKind && !o.Policies || ref.Kind != webhookKind && !ours(live) {
		return &Change{Object: ref, Action: Kept}, nil
	}
	options := []client.DeleteOption{client.Preconditions{UID: ptr.To(live.GetUID())}}
	if o.DryRun {
		options = append(options, client.DryRunAll)
	}
	err = c.Delete(ctx, live, options...)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("deleting %s: %w", ref, err)
	}
	return &Change{Object: ref, Action: Deleted}, nil
}
