package audit

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// patience is how long a kind that could not be read for a passing reason
	// holds up the results of the constraints that match it.
	patience = 2 * time.Minute
)

// kind follows the objects of one kind.
type kind struct {
	a *Auditor
	resource
	source
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{}

	// The fields below are guarded by the Auditor's lock.
	tally
	constraints map[*constraint]bool
	// readsNamespace tells whether some of the constraints do.
	readsNamespace bool
	// wanted is the sequence from which on it has to be read as a whole, and
	// swept the one with which it last was, at sweptAt.
	wanted, swept uint64
	sweptAt       time.Time
	// reread are namespaces that have changed.
	reread map[string]bool
	active map[*reading]bool
	delta  int64 // objects that came, less those that went, since the watch began
	// following tells whether it can be read.
	following bool
	problem   error // why it cannot be read
	since     time.Time
}

func newKind(a *Auditor, r resource) *kind {
	return &kind{
		a: a, resource: r, source: source{a: a, resource: r}, done: make(chan struct{}), wake: make(chan struct{}, 1),
		tally: newTally(), reread: map[string]bool{}, active: map[*reading]bool{},
	}
}

// start follows the kind until ctx ends or stop is called.
func (k *kind) start(ctx context.Context) {
	ctx, k.cancel = context.WithCancel(ctx)
	k.a.tasks.Go(func() {
		defer close(k.done)
		k.run(ctx)
	})
}

func (k *kind) stop() {
	k.cancel()
	<-k.done
}

// concern says which constraints match the kind. The caller holds the lock.
func (k *kind) concern(constraints map[*constraint]bool) {
	before := k.wanted
	k.readsNamespace = false
	for c := range constraints {
		k.wanted = max(k.wanted, c.since)
		k.readsNamespace = k.readsNamespace || c.readsNamespace()
	}
	for c := range k.constraints {
		if !constraints[c] {
			k.forget(c)
		}
	}
	k.constraints = constraints
	if k.wanted != before {
		k.nudge()
	}
}

func (k *kind) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *kind) run(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		err := k.session(ctx)
		if err == nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			k.recovered(err)
			retry = firstRetry
			continue
		}
		k.failed(ctx, err)
		k.wait(ctx, retry)
		retry = min(2*retry, lastRetry)
	}
}

// wait returns after about d, or when the kind is wanted anew.
func (k *kind) wait(ctx context.Context, d time.Duration) {
	timer := k.a.o.Clock.NewTimer(jitter(d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	case <-k.wake:
	}
}

func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

func (k *kind) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	k.source.erred(err)
	if apierrors.IsNotFound(err) {
		k.a.lookAgain()
	}
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	if k.problem == nil {
		k.since = k.a.o.Clock.Now()
		k.a.o.Log.Error(err, "kind not audited; trying again", "kind", k.gvk.String())
	}
	k.problem, k.following, k.a.stirred = err, false, true
	k.touchAll()
}

func (k *kind) recovered(err error) {
	if err != nil {
		k.source.erred(err)
		k.a.o.Log.V(1).Info("reading a kind anew", "kind", k.gvk.String(), "reason", err.Error())
	}
}

// gap tells whether results are not to wait for the kind. The caller holds the
// lock.
func (k *kind) gap() bool {
	if k.problem == nil {
		return false
	}
	return k.a.once || lasting(k.problem) || k.a.o.Clock.Since(k.since) > patience
}

// lasting tells errors that trying again does not help against.
func lasting(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err)
}

// session reads the kind as a whole and follows it from there. It returns nil
// when the kind has to be read anew.
func (k *kind) session(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	var tasks sync.WaitGroup
	defer func() { cancel(); tasks.Wait() }()
	if !k.a.enter(ctx) {
		return nil
	}
	leave := sync.OnceFunc(func() { <-k.a.listings })
	defer leave()

	r := k.begin("")
	defer k.end(r)
	page, err := k.page(ctx, "", "")
	if err != nil {
		return err
	}
	k.followed()
	events, swept := make(chan event, buffered), make(chan error, 1)
	if k.watched {
		tasks.Go(func() { k.follow(ctx, page.GetResourceVersion(), events) })
	}
	tasks.Go(func() {
		swept <- k.sweep(ctx, r, page)
		leave()
	})
	return k.loop(ctx, &tasks, r, events, swept)
}

// enter waits for a turn to read a kind.
func (a *Auditor) enter(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case a.listings <- struct{}{}:
		return true
	}
}

// loop takes events until the kind has to be read anew.
func (k *kind) loop(ctx context.Context, tasks *sync.WaitGroup, r *reading, events <-chan event, swept <-chan error) error {
	resync := k.a.o.Clock.NewTimer(jitter(k.a.o.Resync))
	defer resync.Stop()
	var reread chan error
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if e.err != nil {
				return e.err
			}
			k.take(ctx, e)
		case err := <-swept:
			if err != nil {
				return err
			}
			swept = nil
			k.complete(r)
		case err := <-reread:
			if err != nil {
				return err
			}
			reread = nil
		case <-k.wake:
		case <-resync.C():
			k.expectSame()
			return nil
		}
		if swept != nil || reread != nil {
			continue
		}
		if k.stale() {
			return nil
		}
		reread = k.rereadNext(ctx, tasks)
	}
}

func (k *kind) stale() bool {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	return k.wanted > k.swept
}

// rereadNext reads one of the namespaces that have changed; nil if none has.
func (k *kind) rereadNext(ctx context.Context, tasks *sync.WaitGroup) chan error {
	k.a.mu.Lock()
	namespace := ""
	for namespace = range k.reread {
		break
	}
	delete(k.reread, namespace)
	k.a.mu.Unlock()
	if namespace == "" {
		return nil
	}
	done := make(chan error, 1)
	tasks.Go(func() { done <- k.rereadOne(ctx, namespace) })
	return done
}

// rereadOne reads what lives in a namespace.
func (k *kind) rereadOne(ctx context.Context, namespace string) error {
	r := k.begin(namespace)
	defer k.end(r)
	page, err := k.page(ctx, namespace, "")
	if err == nil {
		err = k.sweep(ctx, r, page)
	}
	return err
}

// namespaceChanged asks for what lives in the namespace to be read anew.
func (a *Auditor) namespaceChanged(namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.kinds {
		if k.namespaced && k.readsNamespace {
			k.reread[namespace] = true
			k.nudge()
		}
	}
}

// take brings the tally in line with an event.
func (k *kind) take(ctx context.Context, e event) {
	key := keyOf(e.object)
	k.a.mu.Lock()
	k.a.stirred = true
	for r := range k.active {
		r.touched[key] = true
	}
	switch e.kind {
	case watch.Added:
		k.delta++
	case watch.Deleted:
		k.delta--
		k.put(key, nil)
	}
	k.a.mu.Unlock()
	if e.kind != watch.Deleted {
		k.review(ctx, e.object, nil)
	}
	k.a.lagged(k.a.o.Clock.Since(e.received))
}

func (a *Auditor) lagged(d time.Duration) {
	a.metrics.lag.Observe(d.Seconds())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lag = d
}

func keyOf(u *unstructured.Unstructured) objectKey {
	return objectKey{namespace: u.GetNamespace(), name: u.GetName()}
}

var errNoObject = errors.New("the watch sent what is no object")
