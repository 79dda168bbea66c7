package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

// Janitor runs on the leader and removes the status entries of processes that
// are gone. Every process that ingests writes to every template, so the
// templates tell which entries there are. Entries that Fusegate did not write,
// such as Gatekeeper's, are not its business. It looks at the cache; only when
// somebody seems to be gone does it ask the API server.
type Janitor struct {
	client    client.Client
	live      client.Reader
	namespace string
	census    *Census
	log       logr.Logger
	swept     map[string]bool // pods that turned out to be none of ours
}

// NewJanitor returns a janitor. live must not be a cache; namespace is where the
// presence Leases lie, which the census knows.
func NewJanitor(c client.Client, live client.Reader, namespace string, census *Census, log logr.Logger) *Janitor {
	return &Janitor{client: c, live: live, namespace: namespace, census: census, log: log, swept: map[string]bool{}}
}

// Start sweeps until ctx ends.
func (j *Janitor) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := j.round(ctx); err != nil && ctx.Err() == nil {
			j.log.Error(err, "entries of dead pods not removed; trying again")
		}
	}, j.census.Timings.Filled().PresenceRenew)
	return nil
}

func (j *Janitor) round(ctx context.Context) error {
	pods, err := j.pods(ctx)
	if err != nil {
		return err
	}
	gone := j.census.dead()
	for _, pod := range j.census.absent(pods) {
		gone[pod] = !j.swept[pod]
	}
	maps.DeleteFunc(gone, func(_ string, sweep bool) bool { return !sweep })
	if len(gone) == 0 {
		return nil
	}
	dead, err := j.confirm(ctx, gone)
	if err != nil {
		return err
	}
	if err := j.sweep(ctx, gone); err != nil {
		return err
	}
	for i := range dead {
		if err := j.bury(ctx, &dead[i]); err != nil {
			return err
		}
	}
	return nil
}

// confirm takes those off gone that are alive after all, by Leases that the
// cache does not show yet, and returns the Leases of the dead.
func (j *Janitor) confirm(ctx context.Context, gone map[string]bool) ([]coordinationv1.Lease, error) {
	leases := &coordinationv1.LeaseList{}
	if err := j.live.List(ctx, leases, client.InNamespace(j.namespace), client.HasLabels{v1alpha1.LabelPresence}); err != nil {
		return nil, fmt.Errorf("listing presence Leases: %w", err)
	}
	for i := range leases.Items {
		j.census.saw(&leases.Items[i])
	}
	still := j.census.dead()
	for _, l := range leases.Items {
		if pod := ptr.Deref(l.Spec.HolderIdentity, ""); !still[pod] {
			delete(gone, pod)
		}
	}
	return slices.DeleteFunc(leases.Items, func(l coordinationv1.Lease) bool { return !gone[ptr.Deref(l.Spec.HolderIdentity, "")] }), nil
}

// pods are all that have an entry, of whatever process.
func (j *Janitor) pods(ctx context.Context) (map[string]bool, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(templateGVK().GroupVersion().WithKind("ConstraintTemplateList"))
	if err := j.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing ConstraintTemplates: %w", err)
	}
	pods := map[string]bool{}
	for i := range list.Items {
		for pod := range status.Entries(&list.Items[i]) {
			pods[pod] = true
		}
	}
	for pod := range j.swept {
		if !pods[pod] {
			delete(j.swept, pod)
		}
	}
	return pods, nil
}

// sweep removes the entries of pods: first from constraints, then from the
// templates, so that a sweep that was cut short is found again. Pods that have
// written to no template are none of ours.
func (j *Janitor) sweep(ctx context.Context, gone map[string]bool) error {
	if len(gone) == 0 {
		return nil
	}
	var templates []*unstructured.Unstructured
	ours := map[string]bool{}
	err := eachLive(ctx, j.live, templateGVK(), func(u *unstructured.Unstructured) error {
		templates = append(templates, u.DeepCopy())
		for pod := range gone {
			ours[pod] = ours[pod] || status.Owns(u, pod)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := j.forgetAll(ctx, templates, ours); err != nil {
		return err
	}
	for pod := range gone {
		if ours[pod] {
			j.log.Info("removed what a pod that is gone had left", "pod", pod)
			continue
		}
		j.swept[pod] = true
	}
	return nil
}

// forgetAll removes what the pods have left in templates and constraints.
func (j *Janitor) forgetAll(ctx context.Context, templates []*unstructured.Unstructured, pods map[string]bool) error {
	forget := func(u *unstructured.Unstructured) error { return j.forget(ctx, u, pods) }
	kinds, err := j.kinds(ctx, templates)
	if err != nil {
		return err
	}
	for kind := range kinds {
		err := eachLive(ctx, j.live, constraintGVK(kind), forget)
		if err != nil && !notServed(err) {
			return err
		}
	}
	for _, t := range templates {
		if err := forget(t); err != nil {
			return err
		}
	}
	return nil
}

// kinds are those of the templates and of the CRDs that have outlived theirs.
func (j *Janitor) kinds(ctx context.Context, templates []*unstructured.Unstructured) (map[string]bool, error) {
	crds := &apiextensionsv1.CustomResourceDefinitionList{}
	if err := j.live.List(ctx, crds, client.MatchingLabels{v1alpha1.LabelConstraintCRD: "yes"}); err != nil {
		return nil, fmt.Errorf("listing constraint CRDs: %w", err)
	}
	kinds := map[string]bool{}
	for i := range crds.Items {
		kinds[crds.Items[i].Spec.Names.Kind] = crds.Items[i].Spec.Group == engine.ConstraintGroup
	}
	maps.DeleteFunc(kinds, func(_ string, ours bool) bool { return !ours })
	for _, t := range templates {
		kinds[kindOf(t)] = true
	}
	return kinds, nil
}

func (j *Janitor) forget(ctx context.Context, u *unstructured.Unstructured, pods map[string]bool) error {
	for pod := range status.Entries(u) {
		if !pods[pod] {
			continue
		}
		err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { return j.forgetOne(ctx, u, pod) })
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// forgetOne reads u again if it has changed since it was read.
func (j *Janitor) forgetOne(ctx context.Context, u *unstructured.Unstructured, pod string) error {
	err := status.Forget(ctx, j.client, u, pod)
	if !apierrors.IsConflict(err) {
		return err
	}
	if err := j.live.Get(ctx, client.ObjectKeyFromObject(u), u); err != nil {
		return fmt.Errorf("reading %s/%s again: %w", u.GetKind(), u.GetName(), err)
	}
	return err
}

// bury deletes a Lease that has run out, unless it has been renewed meanwhile.
func (j *Janitor) bury(ctx context.Context, l *coordinationv1.Lease) error {
	err := j.client.Delete(ctx, l, client.Preconditions{UID: &l.UID, ResourceVersion: &l.ResourceVersion})
	switch {
	case apierrors.IsConflict(err):
		return nil
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("deleting Lease %s: %w", l.Name, err)
	}
	j.census.lost(l) // the cache may be slow to tell
	return nil
}
