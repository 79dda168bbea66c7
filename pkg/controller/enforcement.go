package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/notify"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/pkg/timing"
)

const (
	// enforcementWriters is how many conditions are written at a time.
	enforcementWriters = 8
	// maxAnnounced bounds the Events of one round: when everything changes at
	// once, one says it all.
	maxAnnounced = 10
)

// Webhook tells what comes of requests on their way to the webhook.
type Webhook interface {
	// Intercepted tells whether the API servers are told to send the requests
	// that this version of a constraint matches, and if not, a reason of
	// v1alpha1.ConditionEnforced and a message. A message with true is for
	// what is only partly so.
	Intercepted(constraint *unstructured.Unstructured) (yes bool, reason, message string)
	// Proof tells whether every API server was seen to send requests, or has
	// not been asked yet.
	Proof() (proven, pending bool, reason, message string)
}

// Enforcement is the leader's part of a constraint: the condition Enforced.
type Enforcement struct {
	client   client.Client
	synced   func(kind string) bool
	webhook  Webhook
	census   *Census
	touched  notify.Signal
	ready    func() error
	recorder events.EventRecorder
	timings  timing.Timings
	gauge    *prometheus.GaugeVec
	log      logr.Logger
}

// EnforcementOptions are what an Enforcement needs; all but Metrics and
// Recorder are required.
type EnforcementOptions struct {
	// Client reads from a cache that holds constraints.
	Client client.Client
	// Synced tells of which kinds it holds all of them: an Ingest's.
	Synced func(kind string) bool
	// Census knows who is alive.
	Census  *Census
	Webhook Webhook
	// Ready returns why not all constraints are known yet.
	Ready    func() error
	Recorder events.EventRecorder
	Metrics  prometheus.Registerer
	// Timings are how often conditions are compared with what is so. Nothing is
	// written when nothing has changed.
	Timings timing.Timings
	Log     logr.Logger
}

// NewEnforcement returns an Enforcement. The error is that of registering its
// metric.
func NewEnforcement(o EnforcementOptions) (*Enforcement, error) {
	e := &Enforcement{
		client: o.Client, synced: o.Synced, webhook: o.Webhook, ready: o.Ready, recorder: o.Recorder, log: o.Log,
		census: o.Census, timings: o.Timings.Filled(), touched: notify.New(),
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fusegate_constraints",
			Help: "Constraints by the status and reason of their condition Enforced. Only the leader knows.",
		}, []string{"enforced", "reason"}),
	}
	o.Census.tell(e.Touch)
	if o.Metrics == nil {
		return e, nil
	}
	if err := o.Metrics.Register(e.gauge); err != nil {
		return nil, fmt.Errorf("registering the metric of constraints: %w", err)
	}
	return e, nil
}

// Touch has the conditions compared with what is so, since something that they
// depend on may have changed: a constraint, a template, or what the Webhook says.
// Who is alive needs no Touch. It does not block.
func (e *Enforcement) Touch() { e.touched.Set() }

// Start keeps the conditions until ctx ends.
func (e *Enforcement) Start(ctx context.Context) error {
	said := ""
	for next := time.Now(); e.await(ctx, next); {
		began := time.Now()
		again, err := e.round(ctx)
		next = began.Add(again)
		if err == nil || ctx.Err() != nil {
			said = ""
		} else if said != err.Error() {
			said = err.Error()
			e.log.Error(err, "whether constraints are enforced is not up to date; trying again")
		}
		if !pause(ctx, time.Until(began.Add(e.timings.Enforcement))) {
			return nil
		}
	}
	return nil
}

// await returns at a time, or sooner when something has changed. It tells whether
// ctx has not ended.
func (e *Enforcement) await(ctx context.Context, next time.Time) bool {
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-e.touched.C():
	}
	return ctx.Err() == nil
}

// pause waits for d and tells whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// judged is a constraint with the condition that it is to have.
type judged struct {
	object    *unstructured.Unstructured
	condition metav1.Condition
}

// round returns when to look again although nothing seems to have changed.
func (e *Enforcement) round(ctx context.Context) (again time.Duration, err error) {
	alive, out, known := e.census.alive()
	if e.ready() != nil || !known {
		return e.timings.Enforcement, nil // the conditions stay as they are
	}
	constraints, err := e.constraints(ctx)
	if err != nil {
		return e.timings.Enforcement, err
	}
	all := make([]judged, len(constraints))
	for i, u := range constraints {
		all[i] = judged{u, e.judge(u, alive)}
		all[i].condition.Message = status.Message(all[i].condition.Message)
	}
	e.count(all)
	again = e.timings.EnforcementCheck
	if runsOut := time.Until(out) + time.Millisecond; !out.IsZero() && runsOut < again {
		again = max(runsOut, 0)
	}
	settled, err := e.write(ctx, all)
	if !settled {
		again = e.timings.Enforcement // what was written has to come back
	}
	return again, err
}

// constraints lists those of every template from what is cached, whether it is
// ready or not: one that is not may have been. They must not be modified. A kind
// may go while it is read, and then come again.
func (e *Enforcement) constraints(ctx context.Context) ([]*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	templates := &unstructured.UnstructuredList{}
	templates.SetGroupVersionKind(templateGVK().GroupVersion().WithKind("ConstraintTemplateList"))
	if err := e.client.List(ctx, templates, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing templates: %w", err)
	}
	var out []*unstructured.Unstructured
	for i := range templates.Items {
		t := &templates.Items[i]
		if !strings.EqualFold(kindOf(t), t.GetName()) || !e.synced(kindOf(t)) {
			continue // it was never in force, or is not yet
		}
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(constraintGVK(kindOf(t) + "List"))
		err := e.client.List(ctx, list, client.UnsafeDisableDeepCopy)
		if gone := (*cache.ErrResourceNotCached)(nil); errors.As(err, &gone) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing constraints of kind %s: %w", kindOf(t), err)
		}
		for j := range list.Items {
			out = append(out, &list.Items[j])
		}
	}
	return out, nil
}

func (e *Enforcement) count(all []judged) {
	e.gauge.Reset()
	for _, j := range all {
		e.gauge.WithLabelValues(string(j.condition.Status), j.condition.Reason).Inc()
	}
}

// write brings the conditions up to date, several at a time, and tells whether
// they were.
func (e *Enforcement) write(ctx context.Context, all []judged) (settled bool, err error) {
	var changed []judged
	for _, j := range all {
		if current(j) {
			continue
		}
		changed = append(changed, j)
	}
	errs := make([]error, len(changed))
	var wg sync.WaitGroup
	slots := make(chan struct{}, enforcementWriters)
	for i, j := range changed {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = e.writeOne(ctx, j, i < maxAnnounced)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return false, err
		}
	}
	return len(changed) == 0, nil
}

// current tells whether the constraint has the condition already.
func current(j judged) bool {
	conditions := status.Conditions(j.object)
	have := apimeta.FindStatusCondition(conditions, v1alpha1.ConditionEnforced)
	return have != nil && have.Status == j.condition.Status && have.Reason == j.condition.Reason &&
		have.Message == j.condition.Message && have.ObservedGeneration == j.object.GetGeneration()
}

func (e *Enforcement) writeOne(ctx context.Context, j judged, announce bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	written, err := status.Condition(ctx, e.client, j.object, j.condition)
	if err != nil || !written {
		return err
	}
	before := apimeta.FindStatusCondition(status.Conditions(j.object), v1alpha1.ConditionEnforced)
	changed := before == nil && j.condition.Status == metav1.ConditionTrue || before != nil && before.Status != j.condition.Status
	if !changed || !announce || e.recorder == nil {
		return nil
	}
	kind, verb := corev1.EventTypeNormal, "Enforced"
	if j.condition.Status != metav1.ConditionTrue {
		kind, verb = corev1.EventTypeWarning, "NotEnforced"
	}
	e.recorder.Eventf(j.object, nil, kind, verb, "Enforce", "%s: %s", j.condition.Reason, j.condition.Message)
	return nil
}
