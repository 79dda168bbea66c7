// Package audit reviews what exists, outside the request path. It lists each
// kind that some constraint matches once, page by page, lets every object go
// once it is reviewed, and from then on follows a watch; what it keeps are the
// violations. A sink that it declares is handed the result.
//
// A read of a kind (a reading) and the events of its watch meet in the kind's
// tally. What keeps them apart is that a watch starts where the list was made:
// an object of which an event came since is not taken from the list any more.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/catalog"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/notify"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/timing"
)

// Reviewer judges reviews: an *engine.Engine.
type Reviewer interface {
	Review(ctx context.Context, r *policy.Review) policy.Result
	// ReviewBy is Review by the constraints only for which by returns true.
	ReviewBy(ctx context.Context, r *policy.Review, by func(kind, name string) bool) policy.Result
	AuditScopes() []engine.AuditScope
	Changed() <-chan struct{}
}

// Sink takes results. It is called with everything, from one goroutine, and finds
// out by itself what is new: about once a second while there is news and for ten
// seconds after, and every ten seconds otherwise.
type Sink interface {
	// Constraints is given the outcome of every constraint that is known in
	// full, or cannot be known in full. An outcome must not be changed. It
	// returns those that could not be recorded, sorted.
	Constraints(ctx context.Context, outcomes []*Outcome) []Unwritten
	// Before returns what was last recorded of a constraint, by whichever
	// process; that is nothing if there is none with this UID.
	Before(ctx context.Context, constraint policy.Constraint, uid types.UID) (Before, error)
	// Report is given the report, whose conditions have no transition times.
	Report(ctx context.Context, report v1alpha1.AuditReportStatus) error
}

// Outcome is what audit found by one constraint.
type Outcome struct {
	Constraint policy.Constraint
	UID        types.UID
	Generation int64
	// Total and Exempt count the violations; the objects of exempt ones are
	// outside the perimeter, so that they cannot be enforced.
	Total, Exempt int64
	// Uncounted tells that nothing was ever found out by it: then the counts
	// are not known, which is not zero.
	Uncounted bool
	// Violations and ExemptViolations are the lowest by group, version, kind,
	// namespace, name and message.
	Violations, ExemptViolations []v1alpha1.Violation
	// Costly counts the objects on which it uses over half of its budget, and
	// CostlyObjects are the five worst of them.
	Costly        int64
	CostlyObjects []v1alpha1.CostlyObject
	// At is when this was found to be so.
	At time.Time
	// Read is when all that it matches was last read as a whole; zero if it
	// never was.
	Read time.Time
	// Complete is false where Total is a lower bound; Reason, of
	// v1alpha1.ConditionAudited, and Message say why.
	Complete        bool
	Reason, Message string
}

// The defaults of Options. Those that can be set are the settings' own.
const (
	DefaultLimit   = config.DefaultAuditLimit
	DefaultResync  = config.DefaultAuditResync
	DefaultWorkers = config.DefaultAuditWorkers
	DefaultQPS     = 50
	// DefaultPageSize is client-go's own. An object is let go when it has been
	// reviewed, so that a page is the API server's memory and not that of audit:
	// 500 Pods are some 3 MB there, and fewer at a time cost more requests.
	DefaultPageSize = 500
	// DefaultCheckRights has a revoked right show within a minute.
	DefaultCheckRights = 45 * time.Second
	// MaxLimit is the most violations that may be listed in a status.
	MaxLimit = config.MaxAuditLimit
)

const (
	// quiet is without how many rounds of news results are handed to the sink as
	// seldom.
	quiet = 10
	// reviewTimeout bounds one review.
	reviewTimeout = 10 * time.Second
	// listings is how many kinds are read at a time: each holds a page.
	listings = 2
)

// Options are what an Auditor needs. Config, Reviewer and Sink are required; for
// the rest, zero stands for the default.
type Options struct {
	// Config says how to reach the API server. It is copied; its rate limit is
	// not used.
	Config *rest.Config
	// Discovery tells what is served; by default it is asked for by Config. One
	// that returns the same values as long as nothing changes saves work.
	Discovery discovery.ServerResourcesInterface
	Reviewer  Reviewer
	Perimeter exempt.Perimeter
	Sink      Sink
	// Objects, if there is one, is told object by object.
	Objects ObjectSink
	// Ready returns why not all constraints are known yet; nil means they are.
	Ready func() error
	// NotInForce returns the constraints that the Reviewer does not know, or
	// not as they are. The counts of those are kept, and the report has a gap
	// for each. It is called about once a second.
	NotInForce func() []NotInForce
	// Limit is how many violations of a constraint are listed.
	Limit int
	// Resync is how often every kind is read anew as a whole, give or take a
	// tenth.
	Resync time.Duration
	// CheckRights is how often to ask whether what is watched may still be
	// read, give or take a tenth: the API server lets a watch go on whose right
	// is gone.
	CheckRights time.Duration
	// Workers is how many objects are reviewed at a time.
	Workers int
	// QPS bounds the requests to the API server in a second, of which a page of
	// objects is one; twice as many may come at once.
	QPS float32
	// PageSize is how many objects are asked for at a time, at most.
	PageSize int
	// Timings are how often it looks, tries again and hands over.
	Timings timing.Timings
	// Progress is called by Once after every page and every kind, never twice
	// at the same time. It must not take long.
	Progress func(Progress)
	Clock    clock.WithTicker
	Metrics  prometheus.Registerer
	Log      logr.Logger
}

func (o Options) withDefaults() Options {
	o.Limit = cmp.Or(o.Limit, DefaultLimit)
	o.QPS = cmp.Or(o.QPS, DefaultQPS)
	o.PageSize = cmp.Or(o.PageSize, DefaultPageSize)
	o.Resync = cmp.Or(o.Resync, DefaultResync)
	o.Workers = cmp.Or(o.Workers, DefaultWorkers)
	o.CheckRights = cmp.Or(o.CheckRights, DefaultCheckRights)
	o.Timings = o.Timings.Filled()
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.NotInForce == nil {
		o.NotInForce = func() []NotInForce { return nil }
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	return o
}

// Auditor audits a cluster.
type Auditor struct {
	o          Options
	client     rest.Interface
	discovery  discovery.ServerResourcesInterface
	once       bool // nothing is followed
	metrics    *auditMetrics
	namespaces *namespaces
	workers    chan struct{}
	listings   chan struct{}
	discover   notify.Signal // asks for another look at what is served
	tasks      sync.WaitGroup
	planned    planned // Start's

	progressing sync.Mutex // guards progress
	progress    Progress

	mu       sync.Mutex // guards what follows, and what the kinds say it guards
	sequence uint64     // counts the changes of what constraints ask
	known    map[name]*constraint
	kinds    map[schema.GroupKind]*kind
	unserved map[string]error // by group: why it is not known what it serves
	absent   map[name]*absent // constraints that are not in force
	// unwritten are those whose outcome the sink could not record.
	unwritten map[name]unwritten
	// firstPlan is when it was first known what the constraints ask, and began
	// when that was first asked.
	firstPlan, began time.Time
	readings         uint64
	dirty            map[*constraint]bool
	// changedObjects are those of which the ObjectSink has to be told.
	changedObjects map[objectRef]struct{}
	lag            time.Duration
	// latest is the report as of reported, unless stirred.
	latest   v1alpha1.AuditReportStatus
	reported time.Time
	stirred  bool
}

// New returns an Auditor. The error is about the options, or that of
// registering its metrics.
func New(o Options) (*Auditor, error) {
	if o.Sink == nil {
		return nil, errNoSink
	}
	o.Limit = min(o.Limit, MaxLimit)
	return newAuditor(o)
}

func newAuditor(o Options) (*Auditor, error) {
	if o.Config == nil || o.Reviewer == nil {
		return nil, errors.New("an auditor needs a Config and a Reviewer")
	}
	o = o.withDefaults()
	a := &Auditor{
		o: o, workers: make(chan struct{}, o.Workers), listings: make(chan struct{}, listings),
		discover: notify.New(),
		known:    map[name]*constraint{}, kinds: map[schema.GroupKind]*kind{}, unserved: map[string]error{},
		dirty: map[*constraint]bool{}, changedObjects: map[objectRef]struct{}{},
	}
	a.namespaces = newNamespaces(a)
	var err error
	if a.metrics, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("registering the metrics of audit: %w", err)
	}
	return a, a.connect()
}

// connect makes the clients.
func (a *Auditor) connect() (err error) {
	cfg := rest.CopyConfig(a.o.Config)
	cfg.QPS, cfg.Burst, cfg.RateLimiter = a.o.QPS, int(2*a.o.QPS), nil
	cfg.WarningHandler = rest.NoWarnings{} // old kinds are listed like others
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	// What compression saves is not worth its time inside a cluster; the
	// controllers of Kubernetes ask for none either.
	cfg.DisableCompression = true
	cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	if a.client, err = rest.UnversionedRESTClientFor(cfg); err != nil {
		return fmt.Errorf("creating the client of audit: %w", err)
	}
	if a.discovery = a.o.Discovery; a.discovery != nil {
		return nil
	}
	a.discovery, err = catalog.New(cfg)
	return err
}

// NeedLeaderElection is true: two must never write at once.
func (a *Auditor) NeedLeaderElection() bool { return true }

// Start audits until ctx ends, and returns once everything it started has.
func (a *Auditor) Start(ctx context.Context) error {
	defer a.tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !a.awaitReady(ctx) {
		return nil
	}
	a.tasks.Go(func() { a.namespaces.run(ctx) })
	a.tasks.Go(func() { a.publish(ctx) })
	a.tasks.Go(func() { a.watchRights(ctx) })
	if a.o.Objects != nil {
		a.tasks.Go(func() { a.publishObjects(ctx) })
	}
	for news := true; ctx.Err() == nil; {
		changed := a.o.Reviewer.Changed()
		again := a.refresh(ctx, news)
		news = a.pause(ctx, changed, again)
	}
	return nil
}

// awaitReady waits until the constraints are known, and the namespaces.
func (a *Auditor) awaitReady(ctx context.Context) bool {
	for a.o.Ready() != nil {
		if !a.sleep(ctx, a.o.Timings.AuditSettle) {
			return false
		}
	}
	return true
}

// pause waits until there may be something new: constraints, or after a while
// what is served. It tells whether it was more than time that passed.
func (a *Auditor) pause(ctx context.Context, changed <-chan struct{}, again time.Duration) (news bool) {
	timer := a.o.Clock.NewTimer(again)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
		return false
	case <-a.discover.C():
		a.sleep(ctx, a.o.Timings.AuditSettle)
	case <-changed:
		a.sleep(ctx, a.o.Timings.AuditSettle)
	}
	return true
}

// sleep waits for d and tells whether ctx has not ended.
func (a *Auditor) sleep(ctx context.Context, d time.Duration) bool {
	timer := a.o.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

func (a *Auditor) lookAgain() { a.discover.Set() }
