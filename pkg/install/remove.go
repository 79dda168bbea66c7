package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
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
// Service or a URL: the webhook configuration first, whatever is wrong with the
// rest, so that nothing waits for pods that are gone; then the NetworkPolicy, what runs, the
// rights and the accounts, and the rest in the reverse order of Apply. Of the
// configuration only the namespace counts.
//
// What cannot be removed does not keep the others: the errors are joined, and
// the changes are those that were made. Only when the webhook configuration
// stays does all stay, since the pods are then needed. In the end it is looked
// for again, in case somebody has put it back.
//
// What is not there is no error and not among the changes. Objects that do
// not bear Fusegate's label are kept, except for the webhook configuration,
// which is Fusegate's by its name. The namespace goes with all that is in it;
// Remove does not wait for that.
func Remove(ctx context.Context, c client.Client, cfg config.Config, o RemoveOptions) ([]Change, error) {
	r := &remover{client: c, options: o}
	elsewhere := r.elsewhere(ctx, cfg.WithDefaults().Namespace)
	if err := r.remove(ctx, webhookRef); err != nil {
		return r.changes, fmt.Errorf("removing the webhook configuration, without which nothing else is removed: %w", err)
	}
	objects, err := removable(cfg)
	errs := []error{elsewhere, err, r.remove(ctx, networkRef(cfg.WithDefaults().Namespace))}
	for _, u := range objects {
		errs = append(errs, r.remove(ctx, refOf(u)))
	}
	if !o.DryRun {
		errs = append(errs, r.confirmGone(ctx))
	}
	return r.changes, errors.Join(errs...)
}

var webhookRef = Ref{GroupVersionKind: admissionregistrationv1.SchemeGroupVersion.WithKind(webhookKind), Name: ConfigurationName}

// removable lists all else that can have been installed, in the order of
// removal: that of the plan, backwards.
func removable(cfg config.Config) ([]*unstructured.Unstructured, error) {
	plan, err := Render(config.Config{Namespace: cfg.Namespace, Image: product})
	if err != nil {
		return nil, fmt.Errorf("listing what to remove: %w", err)
	}
	out := slices.DeleteFunc(slices.Clone(plan.Objects), func(u *unstructured.Unstructured) bool { return u.GetKind() == webhookKind })
	slices.Reverse(out)
	return out, nil
}

// remover removes object by object.
type remover struct {
	client  client.Client
	options RemoveOptions
	changes []Change
}

// remove deletes one object, if it is there, and records that.
func (r *remover) remove(ctx context.Context, ref Ref) error {
	live, err := get(ctx, r.client, ref)
	if live == nil || err != nil {
		return err
	}
	if ref.Kind == crdKind && !r.options.Policies || ref.Kind != webhookKind && !ours(live) {
		r.record(ref, Kept)
		return nil
	}
	var options []client.DeleteOption
	if ref.Kind != webhookKind {
		options = append(options, client.Preconditions{UID: ptr.To(live.GetUID())})
	}
	if r.options.DryRun {
		options = append(options, client.DryRunAll)
	}
	err = r.client.Delete(ctx, live, options...)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting %s: %w", ref, err)
	}
	r.record(ref, Deleted)
	return nil
}

func (r *remover) record(ref Ref, what Action) {
	change := Change{Object: ref, Action: what}
	r.changes = append(r.changes, change)
	if r.options.Progress != nil {
		r.options.Progress(change)
	}
}

// elsewhere says that Fusegate runs in another namespace than this one. That it
// cannot be found out is no error: it is asked before anything is removed.
func (r *remover) elsewhere(ctx context.Context, namespace string) error {
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: ConfigurationName}, live); err != nil {
		return nil
	}
	w := entryOf(live, exempt.PolicyEntry)
	if w == nil || w.ClientConfig.Service == nil || w.ClientConfig.Service.Namespace == namespace {
		return nil
	}
	return fmt.Errorf("the installation is in namespace %[1]q, not in %[2]q: uninstall again with --namespace %[1]s, which removes the rest", w.ClientConfig.Service.Namespace, namespace)
}

// confirmGone looks whether somebody has put the webhook configuration back.
func (r *remover) confirmGone(ctx context.Context) error {
	live, err := get(ctx, r.client, webhookRef)
	if live == nil || err != nil {
		return err
	}
	return fmt.Errorf("%s is there again (field managers: %s): somebody, such as a GitOps tool, put it back; stop that first and uninstall again",
		webhookRef, strings.Join(specManagers(live), ", "))
}
