package install

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Kinds that are treated in ways of their own.
const (
	crdKind     = "CustomResourceDefinition"
	webhookKind = "ValidatingWebhookConfiguration"
	networkKind = "NetworkPolicy"
)

// ForeignCRDError says that a CRD which Fusegate installs is there already and
// belongs to somebody else, such as Gatekeeper.
type ForeignCRDError struct {
	Object Ref
	// Managers are the field managers that own its spec, sorted.
	Managers []string
}

// Is implements errors.Is for ErrRefused.
func (e *ForeignCRDError) Is(target error) bool { return target == ErrRefused }

// Error names the CRD, its owners and the ways out.
func (e *ForeignCRDError) Error() string {
	return fmt.Sprintf("%s exists and was installed by somebody else (field managers: %s): if Gatekeeper still uses it, uninstall Gatekeeper first, keeping its CRDs and with them your templates; "+
		"then --take-over-crds (TakeOverCRDs) lets Fusegate replace the definition, which keeps the templates too",
		e.Object, strings.Join(e.Managers, ", "))
}

// Conflict is a field that another manager owns with another value.
type Conflict struct {
	Field, Manager string
}

// ConflictError says that others own fields which the plan sets.
type ConflictError struct {
	Object    Ref
	Conflicts []Conflict
	err       error
}

// Error names the object, each field with its manager, and the ways out.
func (e *ConflictError) Error() string {
	fields := make([]string, len(e.Conflicts))
	for i, c := range e.Conflicts {
		fields[i] = fmt.Sprintf("%s is owned by %q", c.Field, c.Manager)
	}
	return fmt.Sprintf("applying %s: conflict: %s; let that manager no longer set it, or take it over with --force-conflicts (Force)", e.Object, strings.Join(fields, ", "))
}

// Unwrap returns the API server's error.
func (e *ConflictError) Unwrap() error { return e.err }

// managerInMessage finds the manager in the message of a cause of conflict
// (k8s.io/apimachinery pkg/util/managedfields/internal/conflict.go).
var managerInMessage = regexp.MustCompile(`^conflict with "(.*?)"( |$)`)

// explain words the error of an apply.
func explain(ref Ref, err error) error {
	status := apierrors.APIStatus(nil)
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return fmt.Errorf("applying %s: %w", ref, err)
	}
	e := &ConflictError{Object: ref, err: err}
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		manager := cause.Message
		if m := managerInMessage.FindStringSubmatch(cause.Message); m != nil {
			manager = m[1]
		}
		e.Conflicts = append(e.Conflicts, Conflict{Field: cause.Field, Manager: manager})
	}
	if len(e.Conflicts) == 0 {
		return fmt.Errorf("applying %s: %w", ref, err)
	}
	return e
}

// checkCRDs refuses to go on when a CRD of the plan is not Fusegate's.
func (a *applier) checkCRDs(ctx context.Context) error {
	var errs []error
	for _, u := range a.plan.Objects {
		if u.GetKind() != crdKind || a.keeps(u) {
			continue
		}
		live, err := get(ctx, a.client, refOf(u))
		if err != nil {
			return err
		}
		if live != nil && !ours(live) {
			errs = append(errs, &ForeignCRDError{Object: refOf(u), Managers: specManagers(live)})
		}
	}
	return errors.Join(errs...)
}

// readOnly are the CRDs of kinds that Fusegate reads and never writes, status
// included: anybody's definition of them will do.
var readOnly = map[string]bool{"configs.config.gatekeeper.sh": true, "syncsets.syncset.gatekeeper.sh": true}

// keeps tells whether somebody else's object stays as it is, should there be
// one.
func (a *applier) keeps(u *unstructured.Unstructured) bool {
	return u.GetKind() == crdKind && readOnly[u.GetName()] && !a.options.TakeOverCRDs
}

func (a *applier) applyOrKeep(ctx context.Context, u *unstructured.Unstructured) error {
	if a.keeps(u) {
		live, err := get(ctx, a.client, refOf(u))
		if err != nil {
			return err
		}
		if live != nil && !ours(live) {
			a.record(Change{Object: refOf(u), Action: Kept})
			return nil
		}
	}
	return a.apply(ctx, u)
}

// ours tells whether an object was installed by Fusegate.
func ours(u *unstructured.Unstructured) bool { return u.GetLabels()[partOfLabel] == product }

// specManagers are the field managers that set the object itself, not its
// status.
func specManagers(u *unstructured.Unstructured) []string {
	var out []string
	for _, f := range u.GetManagedFields() {
		if f.Subresource == "" {
			out = append(out, f.Manager)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
