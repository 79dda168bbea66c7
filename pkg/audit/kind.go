package audit

import (
	"context"
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
	lost   chan error // the right to read it is gone

	// The fields below are guarded by the Auditor's lock.
	tally
	constraints map[*constraint]bool
	// readsNamespace tells whether some of the constraints do.
	readsNamespace bool
	// wanted is the sequence from which on it has to be read, and swept the one
	// with which it last was. At sweptAt it last was as a whole.
	wanted, swept uint64
	sweptAt       time.Time
	// reread are namespaces that have changed.
	reread map[string]bool
	active map[*reading]bool
	// followed tells whether changes are known; a kind without a watch never
	// is. readable tells whether it can be read.
	followed, readable bool
	problem            error // why it cannot be read
	since              time.Time
	// blind is since when changes were missed, the zero time if none were that
	// have not been read since; blindSaid tells whether the outcomes say so.
	blind     time.Time
	blindSaid bool
	// ragged tells that objects came and went while they were listed.
	ragged bool
}

// zeroTime is never.
var zeroTime time.Time

func newKind(a *Auditor, r resource) *kind {
	return &kind{
		a: a, resource: r, source: source{a: a, resource: r}, done: make(chan struct{}),
		wake: make(chan struct{}, 1), lost: make(chan error, 1),
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
		k.wanted = max(k.wanted, c.since, c.data)
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
	k.erred(err)
	if apierrors.IsNotFound(err) {
		k.a.lookAgain()
	}
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	if k.problem == nil {
		k.since = k.a.o.Clock.Now()
		k.a.o.Log.Error(err, "kind not audited; trying again", "kind", k.gvk.String())
	}
	k.problem, k.readable, k.a.stirred = err, false, true
	k.touchAll()
}

// broken notes that changes may be missed from now on.
func (k *kind) broken() {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.followed, k.a.stirred = false, true
	k.suspects = nil
	if !k.sweptAt.IsZero() && k.blind.IsZero() {
		k.blind = k.a.o.Clock.Now()
	}
}

func (k *kind) recovered(err error) {
	if err != nil {
		k.erred(err)
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
// when all that has to be done again.
func (k *kind) session(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	var tasks sync.WaitGroup
	defer func() { cancel(); tasks.Wait(); k.broken() }()
	select { // what was said of the last session does not count any more
	case old := <-k.lost:
		k.a.o.Log.V(1).Info("reading a kind anew", "kind", k.gvk.String(), "reason", old.Error())
	default:
	}
	events, done := make(chan event, buffered), make(chan error, 1)
	first := k.begin("", nil)
	tasks.Go(func() {
		done <- k.read(ctx, first, func(version string) {
			k.found()
			if k.watched {
				tasks.Go(func() { k.follow(ctx, version, events) })
			}
		})
	})
	return k.loop(ctx, &tasks, events, first, done)
}

// found notes that the kind can be read, and is followed from here on.
func (k *kind) found() {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.followed, k.readable, k.a.stirred = k.watched, true, true
	if k.problem != nil {
		k.a.o.Log.Info("kind audited again", "kind", k.gvk.String())
		k.problem = nil
		k.touchAll()
	}
}

// loop takes events, and has read again what needs to be, one thing after the
// other. done tells the end of the first reading, r.
func (k *kind) loop(ctx context.Context, tasks *sync.WaitGroup, events <-chan event, r *reading, done chan error) error {
	resync := k.a.o.Clock.NewTimer(jitter(k.a.o.Resync))
	defer resync.Stop()
	due := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if e.err != nil {
				return e.err
			}
			k.take(ctx, e)
			continue
		case err := <-k.lost:
			return err
		case err := <-done:
			if err != nil {
				return err
			}
			done = nil
		case <-k.wake:
		case <-resync.C():
			if k.stuck() {
				return nil
			}
			due = true
		}
		if done != nil {
			k.hurry(r)
			continue
		}
		if r = k.next(due); r == nil {
			continue
		}
		if r.whole() {
			due = false
			resync.Reset(jitter(k.a.o.Resync))
		}
		done = make(chan error, 1)
		tasks.Go(func() { done <- k.read(ctx, r, func(string) {}) })
	}
}

// stuck tells whether the watch never came to where the last full read found
// something else: it does not work.
func (k *kind) stuck() bool {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	return len(k.suspects) > 0
}

// next begins the reading that is most wanted; nil if none is. What is wanted and
// the sequence of the reading are as of one time: a constraint that comes between
// them would be taken for read.
func (k *kind) next(due bool) *reading {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	only, namespace := k.wants()
	switch {
	case only != nil:
		return k.beginLocked("", only)
	case namespace != "":
		return k.beginLocked(namespace, nil)
	case due:
		r := k.beginLocked("", nil)
		r.leisurely = true
		return r
	}
	return nil
}

// wants are the constraints that have changed since the kind was read, or whose
// data has, or else a namespace that has changed. The caller holds the lock.
func (k *kind) wants() (only map[*constraint]bool, namespace string) {
	if k.wanted > k.swept {
		only = map[*constraint]bool{}
		for c := range k.constraints {
			if max(c.since, c.data) > k.swept {
				only[c] = true
			}
		}
		if len(only) > 0 {
			return only, ""
		}
		k.swept = k.wanted // they are gone again
	}
	for namespace = range k.reread {
		delete(k.reread, namespace)
		break
	}
	return nil, namespace
}

// namespaceChanged asks for what lives in the namespace to be read anew.
func (a *Auditor) namespaceChanged(namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.kinds {
		if k.namespaced && k.readsNamespace {
			k.reread[namespace] = true
			for r := range k.active {
				r.compare = false
			}
			k.nudge()
		}
	}
}

// take brings the tally in line with an event.
func (k *kind) take(ctx context.Context, e event) {
	if e.kind == watch.Bookmark {
		k.a.mu.Lock()
		defer k.a.mu.Unlock()
		k.passed(e.version)
		return
	}
	key := keyOf(e.object)
	k.arrive(e, key)
	if e.kind != watch.Deleted {
		if !k.a.work(ctx) {
			return
		}
		k.review(ctx, e.object, nil)
		k.a.rest()
	}
	k.a.lagged(k.a.o.Clock.Since(e.received))
}

// arrive notes an event before its object is judged.
func (k *kind) arrive(e event, key objectKey) {
	came := arrival{version: e.version}
	switch e.kind {
	case watch.Added:
		came.n = 1
	case watch.Deleted:
		came.n = -1
	}
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.a.stirred = true
	for r := range k.active {
		r.touched[key.clone()] = true
		if came.n != 0 {
			r.came = append(r.came, came)
		}
	}
	delete(k.suspects, key)
	k.passed(e.version)
	if after(e.version, k.counted) {
		k.objects = max(0, k.objects+came.n)
	}
	if e.kind == watch.Deleted {
		k.put(key, nil)
	}
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
