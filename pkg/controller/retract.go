package controller

import (
	"context"
	"errors"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
)

// templatesCRD is the CRD of ConstraintTemplates themselves.
const templatesCRD = "constrainttemplates." + engine.TemplateGroup

// retract deletes the CRD of a template that is gone, and with it the
// constraints, as the owner reference would. They are not to be had back, so
// the template's absence is read live first, and the CRD must be as it was when
// its owner was read: a template that is deleted with --cascade=orphan leaves
// its CRD without one.
func (p *Publisher) retract(ctx context.Context, template string) error {
	delete(p.known, template)
	crd := &apiextensionsv1.CustomResourceDefinition{}
	err := p.client.Get(ctx, client.ObjectKey{Name: crdName(template)}, crd)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading CRD %s: %w", crdName(template), err)
	}
	if crd.DeletionTimestamp != nil || !ownedBy(crd, template) {
		return nil
	}
	if gone, err := p.gone(ctx, template); err != nil || !gone {
		return err
	}
	err = p.client.Delete(ctx, crd, client.Preconditions{UID: &crd.UID, ResourceVersion: &crd.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting CRD %s: %w", crd.Name, err)
	}
	p.log.Info("constraint CRD deleted", "crd", crd.Name)
	return nil
}

func ownedBy(crd *apiextensionsv1.CustomResourceDefinition, template string) bool {
	owner := metav1.GetControllerOf(crd)
	return owner != nil && owner.Kind == templateGVK().Kind && owner.Name == template &&
		owner.APIVersion == templateGVK().GroupVersion().String()
}

// gone reads live whether a template is not there. One that still is will be
// in the cache in a moment, and come back by itself.
func (p *Publisher) gone(ctx context.Context, template string) (bool, error) {
	err := p.live.Get(ctx, client.ObjectKey{Name: template}, newObject(templateGVK()))
	if err == nil {
		return false, nil
	}
	if missing(err) {
		return true, nil
	}
	if !apierrors.IsNotFound(err) && !apimeta.IsNoMatchError(err) {
		return false, fmt.Errorf("reading ConstraintTemplate %s: %w", template, err)
	}
	return p.undefined(ctx, template, err)
}

// undefined tells whether there are no templates since their CRD is gone. An
// API server that has just started answers as if it were.
func (p *Publisher) undefined(ctx context.Context, template string, why error) (bool, error) {
	err := p.live.Get(ctx, client.ObjectKey{Name: templatesCRD}, &apiextensionsv1.CustomResourceDefinition{})
	if err == nil {
		return false, fmt.Errorf("reading ConstraintTemplate %s: %w", template, why)
	}
	if missing(err) {
		return true, nil
	}
	return false, fmt.Errorf("reading CRD %s: %w", templatesCRD, err)
}

// missing tells whether err says that the object is not there, rather than that
// its kind is not served.
func missing(err error) bool {
	status := apierrors.APIStatus(nil)
	return apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil &&
		!apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}
