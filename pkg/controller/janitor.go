package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

// Janitor runs on the leader and removes the status entries of processes that
// are gone. Every process that ingests writes to every template, so the
// templates tell which entries there are.
type Janitor struct {
	client  client.Client
	live    client.Reader
	census  *census
	log     logr.Logger
	missing map[string]bool // had an entry and no Lease in the last round
}

// NewJanitor returns a janitor. live must not be a cache.
func NewJanitor(c client.Client, live client.Reader, namespace string, log logr.Logger) *Janitor {
	return &Janitor{client: c, live: live, census: newCensus(live, namespace, time.Now), log: log}
}

// Start sweeps until ctx ends.
func (j *Janitor) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := j.round(ctx); err != nil && ctx.Err() == nil {
			j.log.Error(err, "entries of dead pods not removed; trying again")
		}
	}, presenceInterval)
	return nil
}

func (j *Janitor) round(ctx context.Context) error {
	alive, dead, err := j.census.take(ctx)
	if err != nil {
		return err
	}
	gone, missing, err := j.absent(ctx, alive)
	if err != nil {
		return err
	}
	for _, l := range dead {
		gone[*l.Spec.HolderIdentity] = true
	}
	for pod := range gone {
		j.log.Info("removing what a pod that is gone has left", "pod", pod)
		if err := j.sweep(ctx, pod); err != nil {
			return err
		}
	}
	for i := range dead {
		if err := client.IgnoreNotFound(j.client.Delete(ctx, &dead[i])); err != nil {
			return fmt.Errorf("deleting Lease %s: %w", dead[i].Name, err)
		}
	}
	j.missing = missing
	return nil
}

// absent finds entries of pods that have no Lease. They are gone if they had
// none in the round before either; a pod that starts may be quicker to write
// its entry than its Lease.
func (j *Janitor) absent(ctx context.Context, alive map[string]bool) (gone, missing map[string]bool, err error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(templateGVK().GroupVersion().WithKind("ConstraintTemplateList"))
	if err := j.client.List(ctx, list); err != nil {
		return nil, nil, fmt.Errorf("listing ConstraintTemplates: %w", err)
	}
	gone, missing = map[string]bool{}, map[string]bool{}
	for i := range list.Items {
		for pod := range status.Entries(&list.Items[i]) {
			if alive[pod] {
				continue
			}
			missing[pod] = true
			if j.missing[pod] {
				gone[pod] = true
			}
		}
	}
	return gone, missing, nil
}

// sweep removes the entries of pod: first from constraints, then from the
// templates, so that a sweep that was cut short is found again.
func (j *Janitor) sweep(ctx context.Context, pod string) error {
	forget := func(u *unstructured.Unstructured) error {
		if status.Entries(u)[pod] == nil {
			return nil
		}
		return client.IgnoreNotFound(status.Forget(ctx, j.client, u, pod))
	}
	var templates []*unstructured.Unstructured
	err := eachLive(ctx, j.live, templateGVK(), func(u *unstructured.Unstructured) error {
		templates = append(templates, u.DeepCopy())
		t, err := engine.ParseTemplate(u)
		if err != nil {
			return nil
		}
		return eachLive(ctx, j.live, constraintGVK(t.Spec.CRD.Spec.Names.Kind), forget)
	})
	if err != nil {
		return err
	}
	for _, t := range templates {
		if err := forget(t); err != nil {
			return err
		}
	}
	return nil
}
