// Package controller feeds the engine from the cluster: it watches templates
// and, for each, the constraints of its kind; compiles them into the engine; and
// reports what came of it. Every process ingests on its own; the leader alone
// publishes constraint CRDs and removes what dead processes left.
package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
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
	"github.com/fusegate/fusegate/pkg/inventory"
	"github.com/fusegate/fusegate/pkg/notify"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/pkg/timing"
)

const (
	// readTimeout bounds the reads of one reconciliation.
	readTimeout = 10 * time.Second
	// notYet is when to look again for what is about to be served or listed.
	notYet = 200 * time.Millisecond
)

// errNotYet is returned for an object that cannot be read for the moment. The
// only worker must not wait for it.
var errNotYet = errors.New("not listed yet")

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
	live      client.Reader
	watches   *watches
	engine    *engine.Engine
	inventory Inventory
	reports   *reports
	faults    *faults
	absences  *absences
	readiness *Readiness
	log       logr.Logger
	changed   notify.Signal
	touched   func()

	// The fields below belong to the reconciler's only worker.
	queue    workqueue.TypedRateLimitingInterface[key]
	ingested map[string]version // by template: the version that is in the engine
	refused  map[string]refusal // by template: the version that would not compile
	inForce  map[key]attempt    // by constraint: the version that is in the engine
	rejected map[key]rejection  // by constraint: the version that was not accepted
	data     map[string]string  // by template: why its data is not complete
}

// Pace sets how long faults are gathered. It is called before SetupWithManager, if
// at all.
func (i *Ingest) Pace(t timing.Timings) { i.faults.delay = t.Filled().FaultDelay }

// Inventory knows the data that templates read: an *inventory.Inventory.
type Inventory interface {
	// State says whether a template's data is complete; known is false for
	// templates that read none.
	State(template string) (s inventory.State, known bool)
	// Err is why data is still being read that was there at the start.
	Err() error
}

// version is what an object looked like when it was ingested; kind is a
// template's constraint kind.
type version struct {
	uid        types.UID
	generation int64
	kind       string
	requires   string // of a template: the annotation that names what it reads
}

// NewIngest returns an ingest that has not been set up.
func NewIngest(e *engine.Engine, w *status.Writer, r *Readiness, log logr.Logger) *Ingest {
	return &Ingest{
		engine: e, reports: newReports(w, log), faults: newFaults(time.Now), absences: &absences{all: map[key]NotInForce{}}, readiness: r, log: log,
		changed:  notify.New(),
		touched:  func() {},
		ingested: map[string]version{},
		refused:  map[string]refusal{},
		inForce:  map[key]attempt{},
		rejected: map[key]rejection{},
		data:     map[string]string{},
	}
}

// Reads sets who knows the data that templates read. It is to be called before
// SetupWithManager, if at all.
func (i *Ingest) Reads(from Inventory) { i.inventory = from }

// Refresh has a template's status, and that of its constraints, brought up to
// date with what there is to say about its data. It does not block.
func (i *Ingest) Refresh(template string) { i.faults.refresh(key{name: template}) }

// Changed receives when the engine's templates or constraints have changed
// since it was last received from.
func (i *Ingest) Changed() <-chan struct{} { return i.changed.C() }

// Tell has f called on every event of a template or a constraint, which can be
// read then. f must not block. It is to be called before the manager starts, if
// at all.
func (i *Ingest) Tell(f func()) { i.touched = f }

func (i *Ingest) notify() { i.changed.Set() }

// Synced tells whether kind is followed and all its constraints are cached: who
// reads them of another kind would wait for them, or be told that they are not.
// It is safe for concurrent use once the controller has been set up.
func (i *Ingest) Synced(kind string) bool { return i.watches.synced(kind) }

// SetupWithManager adds the controller to mgr, the cache of which must not start
// informers for who reads (ReaderFailOnMissingInformer). It may be called once.
func (i *Ingest) SetupWithManager(mgr manager.Manager) error {
	i.cache, i.live = mgr.GetCache(), mgr.GetAPIReader()
	i.watches = newWatches(i.cache, func(k key) {
		i.queue.Add(k)
		i.touched()
	})
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
		mgr.Add(i.reports),
		c.Watch(source.TypedFunc[key](func(_ context.Context, q workqueue.TypedRateLimitingInterface[key]) error {
			i.queue = q
			i.faults.deliver(q.AddAfter)
			return nil
		})),
		c.Watch(source.TypedKind(i.cache, newObject(templateGVK()), handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, u *unstructured.Unstructured) []key {
				i.touched()
				return []key{{name: u.GetName()}}
			}))),
		c.Watch(source.TypedKind(i.cache, &apiextensionsv1.CustomResourceDefinition{}, handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, crd *apiextensionsv1.CustomResourceDefinition) []key {
				return []key{{name: strings.TrimSuffix(crd.Name, "."+engine.ConstraintGroup)}}
			}))),
	)
}

func (i *Ingest) reconcile(stop context.Context, k key) (reconcile.Result, error) {
	ctx, cancel := context.WithTimeout(stop, readTimeout)
	defer cancel()
	var err error
	if k.kind == "" {
		err = i.template(ctx, k)
	} else {
		err = i.constraint(ctx, k)
	}
	if stop.Err() != nil {
		return reconcile.Result{}, nil // what is cut off is no failure
	}
	if errors.Is(err, errNotYet) || apimeta.IsNoMatchError(err) {
		i.log.V(1).Info("waiting for the API server to serve a kind", "object", k.String(), "reason", err.Error())
		return reconcile.Result{RequeueAfter: notYet}, nil
	}
	return reconcile.Result{}, err
}
