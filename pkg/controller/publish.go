package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

// publisher is the field manager of the generated CRDs.
const publisher = client.FieldOwner("fusegate-controller")

// Publisher is the leader's part of a template: its constraint CRD, and the
// condition that sums up what all processes made of it.
type Publisher struct {
	client    client.Client
	live      client.Reader
	engine    *engine.Engine
	namespace string
	recorder  events.EventRecorder
	log       logr.Logger

	applied map[string]applied // by template; the only worker's
}

// applied says what was last applied and what came of it.
type applied struct {
	hash       uint64
	generation int64
}

// NewPublisher returns a publisher that has not been set up. namespace is where
// the presence Leases lie.
func NewPublisher(e *engine.Engine, namespace string, log logr.Logger) *Publisher {
	return &Publisher{engine: e, namespace: namespace, log: log, applied: map[string]applied{}}
}

// SetupWithManager adds the controller to mgr.
func (p *Publisher) SetupWithManager(mgr manager.Manager) error {
	p.client, p.live = mgr.GetClient(), mgr.GetAPIReader()
	p.recorder = mgr.GetEventRecorder("fusegate")
	toTemplate := func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{request(strings.TrimSuffix(o.GetName(), "."+engine.ConstraintGroup))}
	}
	// Renewals come every few seconds and change nothing.
	comesOrGoes := predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
	return builder.ControllerManagedBy(mgr).
		Named("publisher").
		For(newObject(templateGVK())).
		Watches(&apiextensionsv1.CustomResourceDefinition{}, handler.EnqueueRequestsFromMapFunc(toTemplate)).
		Watches(&coordinationv1.Lease{}, handler.EnqueueRequestsFromMapFunc(p.everyTemplate), builder.WithPredicates(comesOrGoes)).
		Complete(p)
}

func request(template string) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKey{Name: template}}
}

func (p *Publisher) everyTemplate(ctx context.Context, _ client.Object) []reconcile.Request {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(templateGVK().GroupVersion().WithKind("ConstraintTemplateList"))
	if err := p.client.List(ctx, list); err != nil {
		p.log.Error(err, "templates not listed; their conditions may be late")
		return nil
	}
	out := make([]reconcile.Request, len(list.Items))
	for i, t := range list.Items {
		out[i] = request(t.GetName())
	}
	return out
}

// Reconcile publishes one template.
func (p *Publisher) Reconcile(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
	u := newObject(templateGVK())
	err := p.client.Get(ctx, r.NamespacedName, u)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, p.retract(ctx, r.Name)
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading ConstraintTemplate %s: %w", r.Name, err)
	}
	if u.GetDeletionTimestamp() != nil {
		return reconcile.Result{}, nil
	}
	condition, created, err := p.publish(ctx, u)
	if err != nil {
		return reconcile.Result{}, err
	}
	p.announce(u, condition)
	err = status.Published(ctx, p.client, u, created, condition)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil // the object's own event brings it back
	}
	return reconcile.Result{}, err
}

// publish brings the CRD up to date. Only an error worth a retry is returned;
// what the template's author must mend is in the condition.
func (p *Publisher) publish(ctx context.Context, u *unstructured.Unstructured) (metav1.Condition, bool, error) {
	t, err := engine.ParseTemplate(u)
	if err == nil {
		err = p.engine.CheckTemplate(ctx, t)
	}
	if err != nil {
		return notReady(v1alpha1.ReasonCompileError, err.Error()), false, nil
	}
	want, err := p.crd(ctx, t, u)
	if err != nil {
		return notReady(v1alpha1.ReasonCRDError, err.Error()), false, nil
	}
	have, err := p.apply(ctx, t.Name, want)
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
		return notReady(v1alpha1.ReasonCRDError, err.Error()), false, nil
	}
	if err != nil {
		return metav1.Condition{}, false, err
	}
	if !established(have) {
		return notReady(v1alpha1.ReasonCRDNotEstablished, "CRD "+want.GetName()+" is not established yet"), true, nil
	}
	condition, err := p.summary(ctx, u)
	return condition, true, err
}

func notReady(reason, message string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

// crd is the CRD to apply, owned by its template.
func (p *Publisher) crd(ctx context.Context, t *engine.Template, owner *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	crd, err := p.engine.ConstraintCRD(ctx, t)
	if err != nil {
		return nil, err
	}
	crd.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: owner.GetAPIVersion(), Kind: owner.GetKind(), Name: owner.GetName(), UID: owner.GetUID(),
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	}}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(crd)
	if err != nil {
		return nil, fmt.Errorf("converting CRD %s: %w", crd.Name, err)
	}
	u := &unstructured.Unstructured{Object: fields}
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	return u, nil
}

// apply server-side-applies the CRD, unless the one there is the one that the
// same apply left, and returns the one there.
func (p *Publisher) apply(ctx context.Context, template string, want *unstructured.Unstructured) (*apiextensionsv1.CustomResourceDefinition, error) {
	have := &apiextensionsv1.CustomResourceDefinition{}
	err := p.client.Get(ctx, client.ObjectKey{Name: want.GetName()}, have)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading CRD %s: %w", want.GetName(), err)
	}
	hash, hashErr := hashOf(want)
	if hashErr != nil {
		return nil, hashErr
	}
	if err == nil && p.applied[template] == (applied{hash, have.Generation}) {
		return have, nil
	}
	if err := p.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), publisher, client.ForceOwnership); err != nil {
		return nil, fmt.Errorf("applying CRD %s: %w", want.GetName(), err)
	}
	now := &apiextensionsv1.CustomResourceDefinition{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(want.Object, now); err != nil {
		return nil, fmt.Errorf("reading CRD %s as applied: %w", want.GetName(), err)
	}
	p.applied[template] = applied{hash, now.Generation}
	p.log.Info("constraint CRD applied", "crd", now.Name, "generation", now.Generation)
	return now, nil
}

func hashOf(u *unstructured.Unstructured) (uint64, error) {
	text, err := json.Marshal(u.Object)
	if err != nil {
		return 0, fmt.Errorf("encoding CRD %s: %w", u.GetName(), err)
	}
	h := fnv.New64a()
	_, _ = h.Write(text)
	return h.Sum64(), nil
}

// summary is Ready if every living process has compiled this generation.
func (p *Publisher) summary(ctx context.Context, u *unstructured.Unstructured) (metav1.Condition, error) {
	leases := &coordinationv1.LeaseList{}
	if err := p.client.List(ctx, leases, client.InNamespace(p.namespace), client.HasLabels{v1alpha1.LabelPresence}); err != nil {
		return metav1.Condition{}, fmt.Errorf("listing presence Leases: %w", err)
	}
	entries := status.Entries(u)
	var waiting []string
	for _, l := range leases.Items {
		pod := ptr.Deref(l.Spec.HolderIdentity, "")
		entry := entries[pod]
		if g, _ := entry["observedGeneration"].(int64); g != u.GetGeneration() || entry["templateUID"] != string(u.GetUID()) {
			waiting = append(waiting, pod)
			continue
		}
		if errs, _ := entry["errors"].([]any); len(errs) > 0 {
			return notReady(v1alpha1.ReasonCompileError, fmt.Sprintf("pod %s: %v", pod, firstMessage(errs))), nil
		}
	}
	if len(waiting) > 0 || len(leases.Items) == 0 {
		slices.Sort(waiting)
		return notReady(v1alpha1.ReasonWaitingForPods, "not compiled yet by: "+strings.Join(waiting, ", ")), nil
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompiled,
		Message: "compiled by every pod",
	}, nil
}

func firstMessage(errs []any) any {
	e, _ := errs[0].(map[string]any)
	return e["message"]
}

// announce emits an Event when the condition changes for better or worse.
func (p *Publisher) announce(u *unstructured.Unstructured, now metav1.Condition) {
	conditions := status.Conditions(u)
	before := apimeta.FindStatusCondition(conditions, now.Type)
	if before != nil && before.Status == now.Status && before.Reason == now.Reason {
		return
	}
	switch now.Reason {
	case v1alpha1.ReasonCompiled:
		p.recorder.Eventf(u, nil, corev1.EventTypeNormal, now.Reason, "Publish", "%s", now.Message)
	case v1alpha1.ReasonCompileError, v1alpha1.ReasonCRDError:
		p.recorder.Eventf(u, nil, corev1.EventTypeWarning, now.Reason, "Publish", "%s", now.Message)
	}
}

// retract deletes the CRD of a template that is gone, and with it the
// constraints, as the owner reference would. The template's absence is read
// live first: the constraints are not to be had back.
func (p *Publisher) retract(ctx context.Context, template string) error {
	delete(p.applied, template)
	crd := &apiextensionsv1.CustomResourceDefinition{}
	err := p.client.Get(ctx, client.ObjectKey{Name: crdName(template)}, crd)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading CRD %s: %w", crdName(template), err)
	}
	owner := metav1.GetControllerOf(crd)
	if owner == nil || owner.Kind != templateGVK().Kind || owner.Name != template || crd.DeletionTimestamp != nil {
		return nil
	}
	err = p.live.Get(ctx, client.ObjectKey{Name: template}, newObject(templateGVK()))
	if err == nil {
		return errors.New("ConstraintTemplate " + template + " is missing in the cache only")
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading ConstraintTemplate %s: %w", template, err)
	}
	if err := client.IgnoreNotFound(p.client.Delete(ctx, crd, client.Preconditions{UID: &crd.UID})); err != nil {
		return fmt.Errorf("deleting CRD %s: %w", crd.Name, err)
	}
	p.log.Info("constraint CRD deleted", "crd", crd.Name)
	return nil
}
