package controller

import (
	"context"
	"fmt"
	"maps"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

// attempt is everything on which it depends whether a constraint is accepted.
type attempt struct {
	constraint, template version
	onFault              string
}

// rejection is why a constraint was not accepted. It is remembered since the
// words of a schema's complaints come in any order: asking again on every event
// would write another status every time, which is an event.
type rejection struct {
	attempt
	errs []status.Error
}

func (i *Ingest) constraint(ctx context.Context, k key) error {
	if !i.watches.has(k.kind) {
		i.reports.drop(k)
		i.absences.drop(k)
		return nil
	}
	if !i.watches.synced(k.kind) {
		return errNotYet
	}
	u := newObject(constraintGVK(k.kind))
	err := i.cache.Get(ctx, client.ObjectKey{Name: k.name}, u, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return i.removeConstraint(ctx, k)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", k, err)
	}
	errs := i.admit(ctx, k, u)
	i.absences.put(k, u, i.amiss(k, errs))
	i.readiness.observed(k)
	if why := i.engine.Withheld(k.kind); why != nil && len(errs) == 0 {
		if i.inventory != nil && i.inventory.Err() != nil {
			return errNotYet // it answers nothing before that; saying so would only alarm
		}
		errs = []status.Error{{Code: status.CodeInventory, Message: "not enforced: " + why.Error()}}
	}
	i.reports.put(k, report{object: reported(u), enforced: len(errs) == 0, errs: errs, faults: i.faults.take(k)})
	return nil
}

// amiss is why a constraint is not in force as it is, nil if it is. errs are its
// own.
func (i *Ingest) amiss(k key, errs []status.Error) []status.Error {
	template := strings.ToLower(k.kind)
	if _, refused := i.refused[template]; !refused || len(errs) > 0 {
		return errs
	}
	return []status.Error{{Message: fmt.Sprintf("ConstraintTemplate %q has errors, which its status names; the version before stays in force", template)}}
}

// reported is what the writer of a status needs of an object. It may wait for
// its turn, and many others with it.
func reported(u *unstructured.Unstructured) *unstructured.Unstructured {
	out := maps.Clone(u.Object)
	delete(out, "spec")
	return &unstructured.Unstructured{Object: out}
}

// admit puts the constraint into the engine, unless it is there as it is: most
// events tell of a status only.
func (i *Ingest) admit(ctx context.Context, k key, u *unstructured.Unstructured) []status.Error {
	now := attempt{
		constraint: version{uid: u.GetUID(), generation: u.GetGeneration()},
		template:   i.ingested[strings.ToLower(k.kind)],
		onFault:    u.GetAnnotations()[engine.AnnotationOnFault],
	}
	if r, known := i.rejected[k]; known && r.attempt == now {
		return r.errs
	}
	before, inForce := i.inForce[k]
	if inForce && before == now {
		delete(i.rejected, k)
		return nil
	}
	err := i.engine.AddConstraint(ctx, u)
	if engine.IsNoTemplate(err) {
		delete(i.rejected, k)
		return []status.Error{{Code: status.CodeIngest, Message: i.noTemplate(strings.ToLower(k.kind))}}
	}
	if err != nil {
		i.log.Error(err, "constraint not ingested", "constraint", k.String(), "generation", now.constraint.generation)
		message := err.Error()
		if inForce {
			message += fmt.Sprintf(" (generation %d stays in force)", before.constraint.generation)
		}
		i.rejected[k] = rejection{attempt: now, errs: []status.Error{{Code: status.CodeIngest, Message: message}}}
		return i.rejected[k].errs
	}
	delete(i.rejected, k)
	i.inForce[k] = now
	if before.constraint != now.constraint {
		i.log.Info("constraint ingested", "constraint", k.String(), "generation", now.constraint.generation)
		i.notify()
	}
	return nil
}

// noTemplate says why nothing is enforced by the constraints of a template.
func (i *Ingest) noTemplate(template string) string {
	if _, refused := i.refused[template]; refused {
		return fmt.Sprintf("not enforced: ConstraintTemplate %q has errors, which its status names: mend it", template)
	}
	return fmt.Sprintf("not enforced: there is no ConstraintTemplate %q: create it again, or delete this constraint", template)
}

func (i *Ingest) removeConstraint(ctx context.Context, k key) error {
	if err := i.engine.RemoveConstraint(ctx, k.kind, k.name); err != nil {
		return fmt.Errorf("removing %s: %w", k, err)
	}
	if _, known := i.inForce[k]; known {
		i.log.Info("constraint removed", "constraint", k.String())
		delete(i.inForce, k)
		i.notify()
	}
	delete(i.rejected, k)
	i.readiness.observed(k)
	i.reports.drop(k)
	i.absences.drop(k)
	i.faults.drop(k)
	return nil
}
