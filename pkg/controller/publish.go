package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
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
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

const (
	// publisher is the field manager of the generated CRDs.
	publisher = client.FieldOwner("fusegate-controller")

	// refusedAgain is when a CRD that the API server refused is tried again.
	refusedAgain = time.Minute
)

// Publisher is the leader's part of a template: its constraint CRD, and the
// condition that sums up what all processes made of it.
type Publisher struct {
	client   client.Client
	live     client.Reader
	engine   *engine.Engine
	census   *Census
	counted  chan event.GenericEvent
	recorder events.EventRecorder
	log      logr.Logger

	known map[string]*edition // by template; the only worker's
}

// edition is what the publisher knows of a version of a template, so that it
// compiles it and applies its CRD once and not on every pod's status.
type edition struct {
	version
	labels  map[string]string // the CRD carries them, and they have no generation
	checked bool
	problem error   // as of the check
	crd     version // as it was applied; zero before
}

// NewPublisher returns a publisher that has not been set up. The census knows who
// has to compile a template.
func NewPublisher(e *engine.Engine, census *Census, log logr.Logger) *Publisher {
	return &Publisher{
		engine: e, census: census, counted: make(chan event.GenericEvent, 1), log: log, known: map[string]*edition{},
	}
}

// SetupWithManager adds the controller to mgr.
func (p *Publisher) SetupWithManager(mgr manager.Manager) error {
	p.client, p.live = mgr.GetClient(), mgr.GetAPIReader()
	p.recorder = mgr.GetEventRecorder("fusegate")
	toTemplate := func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{request(strings.TrimSuffix(o.GetName(), "."+engine.ConstraintGroup))}
	}
	p.census.tell(func() {
		select {
		case p.counted <- event.GenericEvent{}:
		default:
		}
	})
	return builder.ControllerManagedBy(mgr).
		Named("publisher").
		For(newObject(templateGVK())).
		Watches(&apiextensionsv1.CustomResourceDefinition{}, handler.EnqueueRequestsFromMapFunc(toTemplate)).
		WatchesRawSource(source.Channel(p.counted, handler.EnqueueRequestsFromMapFunc(p.everyTemplate))).
		Complete(p)
}

func request(template string) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKey{Name: template}}
}

func (p *Publisher) everyTemplate(ctx context.Context, _ client.Object) []reconcile.Request {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(templateGVK().GroupVersion().WithKind("ConstraintTemplateList"))
	if err := p.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		p.log.Error(err, "templates not listed; their conditions may be late")
		return nil
	}
	out := make([]reconcile.Request, len(list.Items))
	for i, t := range list.Items {
		out[i] = request(t.GetName())
	}
	return out
}

// Reconcile publishes one template. What is cut off since the process stops is
// no failure.
func (p *Publisher) Reconcile(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
	out, err := p.reconcile(ctx, r)
	if ctx.Err() != nil {
		return reconcile.Result{}, nil
	}
	return out, err
}

func (p *Publisher) reconcile(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
	u := newObject(templateGVK())
	err := p.client.Get(ctx, r.NamespacedName, u)
	if apierrors.IsNotFound(err) {
		return later(p.retract(ctx, r.Name))
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading ConstraintTemplate %s: %w", r.Name, err)
	}
	if u.GetDeletionTimestamp() != nil {
		// Its CRD may be going first, and must not be made again.
		return reconcile.Result{}, nil
	}
	condition, created, err := p.publish(ctx, u)
	if err != nil {
		return later(err)
	}
	p.announce(u, condition)
	err = status.Published(ctx, p.client, u, created, condition)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err == nil && condition.Reason == v1alpha1.ReasonCRDError {
		// Nothing tells when what the API server minds has been mended.
		return reconcile.Result{RequeueAfter: refusedAgain}, nil
	}
	if err != nil {
		return later(err)
	}
	return reconcile.Result{RequeueAfter: p.again(condition)}, nil
}

// again is when to look at a template again although nothing tells of a change,
// 0 for never.
func (p *Publisher) again(said metav1.Condition) time.Duration {
	if said.Reason == v1alpha1.ReasonWaitingForPods {
		return p.census.untilNext() // which may be that of whom it waits for
	}
	return 0
}

// errNotCounted says that it is not known yet who is alive.
var errNotCounted = errors.New("presence Leases have not been listed yet")

// later retries conflicts in silence: what was read was not the latest. So does
// it what has to wait for the census.
func later(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) || errors.Is(err, errNotCounted) {
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	return reconcile.Result{}, err
}

// publish brings the CRD up to date. Only an error worth a retry is returned;
// what the template's author must mend is in the condition.
func (p *Publisher) publish(ctx context.Context, u *unstructured.Unstructured) (metav1.Condition, bool, error) {
	have, err := p.have(ctx, u)
	if err != nil {
		return metav1.Condition{}, false, err
	}
	e := p.edition(u)
	err = e.check(ctx, p.engine, u)
	if errors.Is(err, engine.ErrNoAnswer) {
		return metav1.Condition{}, false, err
	}
	if err != nil {
		return notReady(v1alpha1.ReasonCompileError, e.problem.Error()), false, nil
	}
	have, err = p.bring(ctx, u, have, e)
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || tooLarge(err) {
		return notReady(v1alpha1.ReasonCRDError, err.Error()), false, nil
	}
	if err != nil {
		return metav1.Condition{}, false, err
	}
	if !established(have, kindOf(u)) {
		return notReady(v1alpha1.ReasonCRDNotEstablished, "CRD "+have.Name+" is not established yet"), true, nil
	}
	condition, err := p.summary(u)
	return condition, true, err
}

// tooLarge tells whether an object does not fit into a request, or into etcd, whose
// error the API server passes on as it is.
func tooLarge(err error) bool {
	return apierrors.IsRequestEntityTooLargeError(err) || err != nil && strings.Contains(err.Error(), "etcdserver: request is too large")
}

// edition is what is known of this version of a template.
func (p *Publisher) edition(u *unstructured.Unstructured) *edition {
	now := version{uid: u.GetUID(), generation: u.GetGeneration()}
	if e := p.known[u.GetName()]; e != nil && e.version == now && maps.Equal(e.labels, u.GetLabels()) {
		return e
	}
	e := &edition{version: now, labels: u.GetLabels()}
	p.known[u.GetName()] = e
	return e
}

// check compiles the template unless this version of it has been compiled, and
// returns what is wrong with it, or ErrNoAnswer. One that is Ready has been compiled by all
// processes: who starts beside hundreds of them need not do that again to publish
// them, and what it makes of them itself is in its entries.
func (e *edition) check(ctx context.Context, by *engine.Engine, u *unstructured.Unstructured) error {
	if e.checked {
		return e.problem
	}
	if trueBefore(u, v1alpha1.ConditionReady) != nil {
		e.checked = true
		return nil
	}
	t, err := engine.ParseTemplate(u)
	if err == nil {
		err = by.CheckTemplate(ctx, t)
	}
	if errors.Is(err, engine.ErrNoAnswer) {
		return err
	}
	e.checked, e.problem = true, err
	return err
}

// established tells whether constraints of kind can be created.
func established(crd *apiextensionsv1.CustomResourceDefinition, kind string) bool {
	return crd.DeletionTimestamp == nil && served(crd, kind)
}

func notReady(reason, message string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

// have returns the template's CRD from the cache, nil if it is not there.
func (p *Publisher) have(ctx context.Context, u *unstructured.Unstructured) (*apiextensionsv1.CustomResourceDefinition, error) {
	out := &apiextensionsv1.CustomResourceDefinition{}
	err := p.client.Get(ctx, client.ObjectKey{Name: crdName(u.GetName())}, out, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading CRD %s: %w", crdName(u.GetName()), err)
	}
	return out, nil
}

// bring returns the template's CRD as it is, after server-side-applying it
// unless it is as this edition left it.
func (p *Publisher) bring(ctx context.Context, u *unstructured.Unstructured, have *apiextensionsv1.CustomResourceDefinition, e *edition) (*apiextensionsv1.CustomResourceDefinition, error) {
	if have != nil && metav1.IsControlledBy(have, u) && e.crd == versionOf(have) {
		return have, nil
	}
	now, err := p.apply(ctx, u)
	if err != nil {
		return nil, err
	}
	e.crd = versionOf(now)
	p.log.Info("constraint CRD applied", "crd", now.Name, "generation", now.Generation)
	return now, nil
}

func versionOf(o client.Object) version {
	return version{uid: o.GetUID(), generation: o.GetGeneration()}
}

// apply server-side-applies the template's CRD.
func (p *Publisher) apply(ctx context.Context, u *unstructured.Unstructured) (*apiextensionsv1.CustomResourceDefinition, error) {
	crd, err := p.crd(ctx, u)
	if err != nil {
		return nil, err
	}
	if err := p.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(crd), publisher, client.ForceOwnership); err != nil {
		return nil, fmt.Errorf("applying CRD %s: %w", crd.GetName(), err)
	}
	now := &apiextensionsv1.CustomResourceDefinition{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(crd.Object, now); err != nil {
		return nil, fmt.Errorf("reading CRD %s as applied: %w", crd.GetName(), err)
	}
	return now, nil
}

// crd is the CRD to apply, owned by its template.
func (p *Publisher) crd(ctx context.Context, owner *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	t, err := engine.ParseTemplate(owner)
	if err != nil {
		return nil, err
	}
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

// summary is Ready if every living process has compiled this generation. One that
// has no entry for a template which was ready before has just started, if another
// has one: it answers no request until it knows everything.
func (p *Publisher) summary(u *unstructured.Unstructured) (metav1.Condition, error) {
	alive, _, known := p.census.alive()
	if !known {
		return metav1.Condition{}, errNotCounted
	}
	entries := status.Entries(u)
	var waiting, missing, interpreted []string
	for _, pod := range slices.Sorted(maps.Keys(alive)) {
		entry := entries[pod]
		if entry == nil {
			missing = append(missing, pod)
			continue
		}
		if !upToDate(entry, u) {
			waiting = append(waiting, pod)
			continue
		}
		if errs := errorsOf(entry); len(errs) > 0 {
			return notReady(v1alpha1.ReasonCompileError, fmt.Sprintf("pod %s: %v", pod, firstMessage(errs))), nil
		}
		if why, _ := entry["interpreted"].(string); why != "" {
			interpreted = append(interpreted, fmt.Sprintf("pod %s: %s", pod, why))
		}
	}
	if len(alive) == 0 {
		return notReady(v1alpha1.ReasonWaitingForPods, "no pod of Fusegate has shown yet that it is alive"), nil
	}
	if trueBefore(u, v1alpha1.ConditionReady) == nil || len(missing) == len(alive) {
		waiting = append(waiting, missing...)
	}
	if len(waiting) > 0 {
		slices.Sort(waiting)
		return notReady(v1alpha1.ReasonWaitingForPods, "not compiled yet by: "+strings.Join(waiting, ", ")), nil
	}
	return ready(interpreted), nil
}

// ready says that a template judges, and by which pods' interpreter it does.
func ready(interpreted []string) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompiled, Message: "compiled by every pod",
	}
	if len(interpreted) > 0 {
		slices.Sort(interpreted)
		c.Reason = v1alpha1.ReasonInterpreted
		c.Message = "judged by OPA's interpreter, which is slower: " + strings.Join(interpreted, "; ")
	}
	return c
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
	case v1alpha1.ReasonCompileError, v1alpha1.ReasonCRDError, v1alpha1.ReasonInterpreted:
		p.recorder.Eventf(u, nil, corev1.EventTypeWarning, now.Reason, "Publish", "%s", now.Message)
	}
}
