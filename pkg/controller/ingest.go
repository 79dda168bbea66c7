// Package controller feeds the engine from the cluster: it watches templates
// and, for each, the constraints of its kind; compiles them into the engine; and
// reports what came of it. Every process ingests on its own; the leader alone
// publishes constraint CRDs and removes what dead processes left.
package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

// readTimeout bounds a read from the cache, which waits for an informer that
// has not synced.
const readTimeout = 10 * time.Second

// key is a template (kind empty) or a constraint.
type key struct{ kind, name string }

func (k key) String() string {
	if k.kind == "" {
		return "ConstraintTemplate/" + k.name
	}
	return k.kind + "/" + k.name
}

func templateGVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: engine.TemplateGroup, Version: "v1", Kind: "ConstraintTemplate"}
}

func constraintGVK(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: engine.ConstraintGroup, Version: "v1beta1", Kind: kind}
}

func newObject(gvk schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u
}

// crdName is the name of the CRD of a template's constraint kind.
func crdName(template string) string { return template + "." + engine.ConstraintGroup }

// Ingest is the one controller by which a process learns of templates and
// constraints. It works on one object at a time, since a constraint is worth
// nothing before its template.
type Ingest struct {
	cache     cache.Cache
	engine    *engine.Engine
	status    *status.Writer
	readiness *Readiness
	log       logr.Logger
	changed   chan struct{}

	// The fields below belong to the reconciler's only worker.
	queue    workqueue.TypedRateLimitingInterface[key]
	watches  *watches
	ingested map[string]version // by template: the version that is in the engine
	refused  map[string]refusal // by template: the version that would not compile
	inForce  map[key]version    // by constraint: the version that is in the engine
}

// version is what an object looked like when it was ingested; kind is a
// template's constraint kind.
type version struct {
	uid        types.UID
	generation int64
	kind       string
}

// refusal is why a version of a template is not in the engine.
type refusal struct {
	version
	errs []status.Error
}

// NewIngest returns an ingest that has not been set up.
func NewIngest(e *engine.Engine, w *status.Writer, r *Readiness, log logr.Logger) *Ingest {
	return &Ingest{
		engine: e, status: w, readiness: r, log: log,
		changed:  make(chan struct{}, 1),
		ingested: map[string]version{},
		refused:  map[string]refusal{},
		inForce:  map[key]version{},
	}
}

// Changed receives when the engine's templates or constraints have changed
// since it was last received from.
func (i *Ingest) Changed() <-chan struct{} { return i.changed }

func (i *Ingest) notify() {
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// SetupWithManager adds the controller to mgr. It may be called once.
func (i *Ingest) SetupWithManager(mgr manager.Manager) error {
	i.cache = mgr.GetCache()
	c, err := controller.NewTyped("ingest", mgr, controller.TypedOptions[key]{
		Reconciler:              reconcile.TypedFunc[key](i.reconcile),
		NeedLeaderElection:      ptr.To(false),
		MaxConcurrentReconciles: 1,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[key](100*time.Millisecond, 30*time.Second),
	})
	if err != nil {
		return fmt.Errorf("creating the ingest controller: %w", err)
	}
	return errors.Join(
		c.Watch(source.TypedFunc[key](func(_ context.Context, q workqueue.TypedRateLimitingInterface[key]) error {
			i.queue, i.watches = q, newWatches(i.cache, q)
			return nil
		})),
		c.Watch(source.TypedKind(i.cache, newObject(templateGVK()), handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, u *unstructured.Unstructured) []key { return []key{{name: u.GetName()}} }))),
		c.Watch(source.TypedKind(i.cache, &apiextensionsv1.CustomResourceDefinition{}, handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, crd *apiextensionsv1.CustomResourceDefinition) []key {
				return []key{{name: strings.TrimSuffix(crd.Name, "."+engine.ConstraintGroup)}}
			}))),
	)
}

func (i *Ingest) reconcile(ctx context.Context, k key) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var err error
	if k.kind == "" {
		err = i.template(ctx, k)
	} else {
		err = i.constraint(ctx, k)
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		// The object changed or went while its status was written: its own
		// event brings it back.
		i.log.V(1).Info("status not written, the object has changed", "object", k.String(), "reason", err.Error())
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	return reconcile.Result{}, err
}

func (i *Ingest) template(ctx context.Context, k key) error {
	u := newObject(templateGVK())
	err := i.cache.Get(ctx, client.ObjectKey{Name: k.name}, u)
	if apierrors.IsNotFound(err) {
		return i.removeTemplate(ctx, k)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", k, err)
	}
	kind, errs := i.compile(ctx, u)
	if len(errs) > 0 {
		i.readiness.waived(k.name)
	} else if err := i.watchConstraints(ctx, k.name, kind); err != nil {
		return err
	}
	i.readiness.observed(k)
	return i.status.Template(ctx, u, errs)
}

// compile puts the template into the engine, unless this version of it is
// there already or was refused before.
func (i *Ingest) compile(ctx context.Context, u *unstructured.Unstructured) (kind string, errs []status.Error) {
	name := u.GetName()
	now := version{uid: u.GetUID(), generation: u.GetGeneration()}
	if before := i.ingested[name]; before.uid == now.uid && before.generation == now.generation {
		return before.kind, nil
	}
	if before, known := i.refused[name]; known && before.version == now {
		return "", before.errs
	}
	t, err := engine.ParseTemplate(u)
	if err == nil {
		err = i.engine.AddTemplate(ctx, t)
	}
	if err != nil {
		i.log.Error(err, "template not ingested", "template", name, "generation", now.generation)
		i.refused[name] = refusal{version: now, errs: templateErrors(err)}
		return "", i.refused[name].errs
	}
	delete(i.refused, name)
	now.kind = t.Spec.CRD.Spec.Names.Kind
	i.ingested[name] = now
	i.log.Info("template ingested", "template", name, "generation", now.generation)
	i.requeueConstraints(ctx, now.kind)
	i.notify()
	return now.kind, nil
}

// templateErrors lists what is wrong with a template, with the position in the
// Rego source where there is one.
func templateErrors(err error) []status.Error {
	var out []status.Error
	for _, p := range engine.Problems(err) {
		out = append(out, status.Error{Code: cmp.Or(p.Code, status.CodeCreate), Message: p.Message, Location: p.Location})
	}
	return out
}

func (i *Ingest) removeTemplate(ctx context.Context, k key) error {
	if err := i.engine.RemoveTemplate(ctx, k.name); err != nil {
		return fmt.Errorf("removing %s: %w", k, err)
	}
	delete(i.refused, k.name)
	if v, known := i.ingested[k.name]; known {
		i.log.Info("template removed", "template", k.name)
		delete(i.ingested, k.name)
		for c := range i.inForce {
			if c.kind == v.kind {
				delete(i.inForce, c)
			}
		}
		i.notify()
	}
	i.readiness.waived(k.name)
	i.readiness.observed(k)
	return i.watches.remove(ctx, k.name)
}

// watchConstraints watches the template's constraints once their CRD serves
// them; the CRD's own event comes back here when it does.
func (i *Ingest) watchConstraints(ctx context.Context, template, kind string) error {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	err := i.cache.Get(ctx, client.ObjectKey{Name: crdName(template)}, crd)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading CRD %s: %w", crdName(template), err)
	}
	if !established(crd) {
		return nil
	}
	return i.watches.add(ctx, template, kind)
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	if crd.DeletionTimestamp != nil {
		return false
	}
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// requeueConstraints has the constraints of kind checked against a template
// that has changed.
func (i *Ingest) requeueConstraints(ctx context.Context, kind string) {
	if !i.watches.has(kind) {
		return
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(constraintGVK(kind + "List"))
	if err := i.cache.List(ctx, list); err != nil {
		i.log.Error(err, "constraints not checked against the changed template", "kind", kind)
		return
	}
	for _, c := range list.Items {
		i.queue.Add(key{kind: kind, name: c.GetName()})
	}
}

func (i *Ingest) constraint(ctx context.Context, k key) error {
	if !i.watches.has(k.kind) {
		return nil
	}
	u := newObject(constraintGVK(k.kind))
	err := i.cache.Get(ctx, client.ObjectKey{Name: k.name}, u)
	if apierrors.IsNotFound(err) {
		return i.removeConstraint(ctx, k)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", k, err)
	}
	errs := i.admit(ctx, k, u)
	i.readiness.observed(k)
	return i.status.Constraint(ctx, u, len(errs) == 0, errs)
}

// admit puts the constraint into the engine, which finds out by itself whether
// anything has changed: annotations count, and they have no generation.
func (i *Ingest) admit(ctx context.Context, k key, u *unstructured.Unstructured) []status.Error {
	before, inForce := i.inForce[k]
	now := version{uid: u.GetUID(), generation: u.GetGeneration()}
	if err := i.engine.AddConstraint(ctx, u); err != nil {
		i.log.Error(err, "constraint not ingested", "constraint", k.String(), "generation", now.generation)
		message := err.Error()
		if inForce {
			message += fmt.Sprintf(" (generation %d stays in force)", before.generation)
		}
		return []status.Error{{Code: status.CodeIngest, Message: message}}
	}
	if before != now {
		i.log.Info("constraint ingested", "constraint", k.String(), "generation", now.generation)
		i.inForce[k] = now
		i.notify()
	}
	return nil
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
	i.readiness.observed(k)
	return nil
}
