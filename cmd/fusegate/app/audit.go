package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/controller"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	reporting "github.com/fusegate/fusegate/pkg/report"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/pkg/webhook"
)

const (
	auditWriters      = 4
	auditWriteTimeout = 10 * time.Second
)

// addAudit adds the audit, which runs on the leader.
func (p *parts) addAudit() error {
	sink := newAuditSink(p.mgr.GetClient(), p.mgr.GetEventRecorder("fusegate"), p.settings.AuditResync)
	sink.timings = p.timings
	unjudged := controller.NewUnjudged(controller.UnjudgedOptions{
		Cached: p.mgr.GetClient(), Live: p.mgr.GetAPIReader(), Namespace: p.settings.Namespace, Reviewer: p.engine,
		Namespaces: webhook.NewClusterNamespaces(p.mgr.GetCache(), p.mgr.GetAPIReader(), p.log.WithName("unjudged")),
		Timings:    p.timings, Log: p.log.WithName("unjudged"),
	})
	sink.unjudged = unjudged.List
	objects, err := p.newReporter(sink)
	if err != nil {
		return err
	}
	a, err := audit.New(audit.Options{
		Config: p.mgr.GetConfig(), Discovery: p.catalog, Reviewer: p.engine, Perimeter: p.perimeter, Sink: sink, Objects: objects,
		Ready: p.inventory.Err, NotInForce: p.notInForce, Limit: int(p.settings.AuditLimit), Resync: p.settings.AuditResync, Workers: int(p.settings.AuditWorkers),
		Timings: p.timings, Metrics: metrics.Registry, Log: p.log.WithName("audit"),
	})
	if err != nil {
		return err
	}
	return errors.Join(p.mgr.Add(unjudged), p.mgr.Add(a))
}

// notInForce are the constraints that the engine does not have as they are.
func (p *parts) notInForce() []audit.NotInForce {
	all := p.ingest.NotInForce()
	out := make([]audit.NotInForce, len(all))
	for i, x := range all {
		out[i] = audit.NotInForce(x)
	}
	return out
}

// auditSink writes what audit finds into the status of constraints, and into
// the report.
type auditSink struct {
	client  client.Client
	resync  time.Duration
	timings timing.Timings
	news    *auditNews
	// unjudged are the objects that the report lists as such; nil for none.
	unjudged func() []v1alpha1.UnjudgedObject

	mu sync.Mutex
	// settled holds, by constraint, what was last compared or written.
	settled  map[string]settledAudit
	failing  map[string]failedAudit // by constraint
	compared time.Time
	// refreshes is how many more may be written for their time alone in this
	// round.
	refreshes atomic.Int64
	report    v1alpha1.AuditReportStatus
	reported  time.Time
	// reporter writes report objects; nil if none are asked for.
	reporter *reporting.Reporter
}

// refreshWithin is in how many rounds statuses in which only the time is old are
// written, at least: those of all constraints become old at once.
const refreshWithin = 120

func newAuditSink(c client.Client, recorder events.EventRecorder, resync time.Duration) *auditSink {
	return &auditSink{client: c, resync: resync, timings: timing.Production(), news: newAuditNews(recorder), settled: map[string]settledAudit{}, failing: map[string]failedAudit{}}
}

// settledAudit is an outcome that needs no more writing as long as the
// constraint has this version: it says so already, or the cache lags behind
// what was written.
type settledAudit struct {
	outcome *audit.Outcome
	version string
}

// failedAudit is a constraint whose status could not be written: why, and when to
// try again.
type failedAudit struct {
	err   error
	next  time.Time
	delay time.Duration
}

// Constraints implements audit.Sink. What cannot be written keeps nothing else
// from being written.
func (s *auditSink) Constraints(ctx context.Context, outcomes []*audit.Outcome) []audit.Unwritten {
	errs := make([]error, len(outcomes))
	var tasks sync.WaitGroup
	slots := make(chan struct{}, auditWriters)
	s.refreshes.Store(int64(1 + len(outcomes)/refreshWithin))
	compare := time.Since(s.compared) >= s.timings.AuditCompare
	if compare {
		s.compared = time.Now()
	}
	for i, o := range outcomes {
		if !compare && s.knows(o) {
			continue
		}
		slots <- struct{}{}
		tasks.Go(func() {
			defer func() { <-slots }()
			errs[i] = s.tryConstraint(ctx, o)
		})
	}
	tasks.Wait()
	s.forget(outcomes)
	var out []audit.Unwritten
	for i, err := range errs {
		if err != nil {
			out = append(out, audit.Unwritten{Kind: outcomes[i].Constraint.Kind, Name: outcomes[i].Constraint.Name, Err: err})
		}
	}
	return out
}

// tryConstraint writes one outcome, if it is not too early to try that again. A
// constraint that has changed or gone meanwhile is no failure.
func (s *auditSink) tryConstraint(ctx context.Context, o *audit.Outcome) error {
	key := o.Constraint.String()
	s.mu.Lock()
	failed, again := s.failing[key]
	s.mu.Unlock()
	if again && time.Now().Before(failed.next) {
		return failed.err
	}
	err := s.constraint(ctx, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		delete(s.failing, key)
		return nil
	}
	delete(s.settled, key) // whatever it says now, it is not what was settled
	failed.err, failed.delay = err, min(max(2*failed.delay, s.timings.AuditRetry), s.timings.AuditRetryMax)
	failed.next = time.Now().Add(failed.delay)
	s.failing[key] = failed
	return err
}

// Before implements audit.Sink.
func (s *auditSink) Before(ctx context.Context, constraint policy.Constraint, uid types.UID) (audit.Before, error) {
	u, err := s.read(ctx, constraint)
	if apierrors.IsNotFound(err) || err == nil && u.GetUID() != uid {
		return audit.Before{}, nil
	}
	if err != nil {
		return audit.Before{}, fmt.Errorf("reading what was found by %s: %w", constraint, err)
	}
	was, err := status.AuditOf(u)
	if err != nil {
		return audit.Before{}, nil // it says nothing, and is written anew
	}
	return audit.Before{
		Counted: !was.Uncounted, Total: was.Total, Exempt: was.Exempt, At: was.At,
		Violations: was.Violations, ExemptViolations: was.ExemptViolations,
		Costly: was.Costly, CostlyObjects: was.CostlyObjects,
	}, nil
}

// read returns a constraint from the cache. It must not be modified. The error is
// NotFound, too, if its kind is not cached any more.
func (s *auditSink) read(ctx context.Context, c policy.Constraint) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(engine.ConstraintGroup + "/v1beta1")
	u.SetKind(c.Kind)
	err := s.client.Get(ctx, client.ObjectKey{Name: c.Name}, u, client.UnsafeDisableDeepCopy)
	if gone := (*cache.ErrResourceNotCached)(nil); errors.As(err, &gone) {
		err = apierrors.NewNotFound(schema.GroupResource{Group: engine.ConstraintGroup, Resource: strings.ToLower(c.Kind)}, c.Name)
	}
	return u, err
}

// constraint writes one outcome unless the constraint has changed since.
func (s *auditSink) constraint(ctx context.Context, o *audit.Outcome) error {
	ctx, cancel := context.WithTimeout(ctx, auditWriteTimeout)
	defer cancel()
	if !s.served(ctx, o.Constraint.Kind, o.Reason == v1alpha1.ReasonNotInForce) {
		return nil
	}
	u, err := s.read(ctx, o.Constraint)
	if err != nil {
		return err
	}
	now := settledAudit{o, u.GetResourceVersion()}
	if u.GetUID() != o.UID || u.GetGeneration() != o.Generation {
		return nil
	}
	s.news.meet(u)
	if s.isSettled(now) {
		s.news.tell(u, o)
		return nil
	}
	fresh := s.resync / 2
	later := status.Stale(u, o.Read, fresh) && s.refreshes.Add(-1) < 0
	if later {
		fresh = math.MaxInt64 // what has changed is written all the same
	}
	written, err := status.Audited(ctx, s.client, u, finding(o), fresh)
	if err != nil || later && !written {
		return err
	}
	s.settle(now)
	s.news.tell(u, o)
	return nil
}

// knows tells whether an outcome was compared or written before.
func (s *auditSink) knows(o *audit.Outcome) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled[o.Constraint.String()].outcome == o
}

// served tells whether the constraints of a kind have a CRD that is to stay, and a
// template, unless they may be orphans.
func (s *auditSink) served(ctx context.Context, kind string, orphans bool) bool {
	key := client.ObjectKey{Name: strings.ToLower(kind)}
	template := &unstructured.Unstructured{}
	template.SetAPIVersion(engine.TemplateGroup + "/v1")
	template.SetKind("ConstraintTemplate")
	err := s.client.Get(ctx, key, template, client.UnsafeDisableDeepCopy)
	if err != nil && !(orphans && apierrors.IsNotFound(err)) || template.GetDeletionTimestamp() != nil {
		return false
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	key.Name += "." + engine.ConstraintGroup
	return s.client.Get(ctx, key, crd, client.UnsafeDisableDeepCopy) == nil && crd.GetDeletionTimestamp() == nil
}

func finding(o *audit.Outcome) status.Audit {
	condition := metav1.Condition{Type: v1alpha1.ConditionAudited, Status: metav1.ConditionTrue, Reason: o.Reason, Message: o.Message}
	if !o.Complete {
		condition.Status = metav1.ConditionFalse
	}
	return status.Audit{
		Uncounted: o.Uncounted, Total: o.Total, Exempt: o.Exempt, Violations: o.Violations, ExemptViolations: o.ExemptViolations,
		Costly: o.Costly, CostlyObjects: o.CostlyObjects,
		At: o.At, Read: o.Read, Condition: condition,
	}
}

func (s *auditSink) isSettled(now settledAudit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled[now.outcome.Constraint.String()] == now
}

func (s *auditSink) settle(now settledAudit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled[now.outcome.Constraint.String()] = now
}

// forget drops what is known of constraints that are gone.
func (s *auditSink) forget(outcomes []*audit.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	present := make(map[string]bool, len(outcomes))
	for _, o := range outcomes {
		present[o.Constraint.String()] = true
	}
	maps.DeleteFunc(s.settled, func(key string, _ settledAudit) bool { return !present[key] })
	maps.DeleteFunc(s.failing, func(key string, _ failedAudit) bool { return !present[key] })
	s.news.forget(present)
}

// Report implements audit.Sink. It is written when it changes, but not for the
// lag alone.
func (s *auditSink) Report(ctx context.Context, r v1alpha1.AuditReportStatus) error {
	if s.reporter != nil {
		r.Conditions = append(slices.Clone(r.Conditions), s.reporter.Condition())
	}
	if s.unjudged != nil {
		r.Unjudged = s.unjudged()
	}
	before := s.report
	before.LagMilliseconds = r.LagMilliseconds
	if reflect.DeepEqual(before, r) || time.Since(s.reported) < s.timings.AuditReport {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, auditWriteTimeout)
	defer cancel()
	if err := status.Reported(ctx, s.client, r); err != nil {
		return err
	}
	s.report, s.reported = r, time.Now()
	return nil
}
