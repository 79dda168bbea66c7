package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/fusegate/fusegate/pkg/notify"
)

// patience is how long a kind that could not be read for a passing reason holds up
// the results of the constraints that match it.
const patience = 2 * time.Minute

// kind follows the objects of one kind.
type kind struct {
	a *Auditor
	resource
	source
	cancel context.CancelFunc
	done   chan struct{}
	wake   notify.Signal
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
	// reread are namespaces that have changed. They have their turn after what was
	// read because of data, as readForData tells the last was.
	reread      map[string]bool
	readForData bool
	active      map[*reading]bool
	// followed tells whether changes are known; a kind without a watch never
	// is. readable tells whether it can be read, as far as is known.
	followed, readable bool
	// problem is why it could not be read, since when, and overdue that it was
	// so for longer than patience when it last was tried. It stays until the
	// kind has been read as a whole.
	problem error
	since   time.Time
	overdue bool
	// watching tells that there is to be a watch, sees that there is one, and
	// refused why there could be none, until there is.
	watching, sees bool
	refused        error
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
		wake: notify.New(), lost: make(chan error, 1),
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

func (k *kind) nudge() { k.wake.Set() }

func (k *kind) run(ctx context.Context) {
	retry := k.a.o.Timings.AuditRead
	for ctx.Err() == nil {
		well, err := k.session(ctx)
		if well {
			retry = k.a.o.Timings.AuditRead
		}
		if err == nil || well && unwatched(err) {
			k.recovered(err)
			continue
		}
		k.failed(ctx, err)
		k.wait(ctx, retry)
		retry = min(2*retry, k.a.o.Timings.AuditReadMax)
	}
}

// wait returns after about d, or when the kind is wanted anew.
func (k *kind) wait(ctx context.Context, d time.Duration) {
	timer := k.a.o.Clock.NewTimer(jitter(d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	case <-k.wake.C():
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
	k.overdue = k.a.o.Clock.Since(k.since) > patience
	k.problem, k.readable, k.a.stirred = err, false, true
	k.touchAll()
}

// broken notes that changes may be missed from now on.
func (k *kind) broken() {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.followed, k.watching, k.sees, k.a.stirred = false, false, false, true
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

// gap tells whether results are not to wait for the kind. They do while it is
// being read, unless it was tried for long before. The caller holds the lock.
func (k *kind) gap() bool {
	if k.problem == nil {
		return false
	}
	return k.a.once || lasting(k.problem) || k.overdue || !k.readable && k.a.o.Clock.Since(k.since) > patience
}

func (k *kind) cameAndWent() string {
	return fmt.Sprintf("%s came and went while they were listed", k.gvr.GroupResource())
}

// overlooked says where objects or changes of namespaces were not seen that no
// kind is being read for, "" if nowhere. The caller holds the lock.
func (a *Auditor) overlooked() string {
	for _, k := range a.sortedKinds() {
		if a.once && k.ragged {
			return k.cameAndWent()
		}
	}
	return a.namespacesMissed()
}

// late counts the kinds of which changes do not show at once, and says why for
// some of those that cannot be watched. The caller holds the lock.
func (a *Auditor) late() (n int, why string) {
	var refused []string
	for _, k := range a.sortedKinds() {
		if k.refused != nil {
			refused = append(refused, k.refused.Error())
		}
		if !k.readable || k.problem != nil || k.refused != nil || !k.sweptAt.IsZero() && a.o.Clock.Since(k.sweptAt) > 2*a.o.Resync+patience {
			n++
		}
	}
	if len(refused) == 0 {
		return n, ""
	}
	return n, fmt.Sprintf("; %d cannot be watched: %s", len(refused), strings.Join(refused[:min(len(refused), 3)], "; "))
}

// lasting tells errors that trying again does not help against.
func lasting(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err)
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
	only := k.wants()
	data := k.forData(only)
	others := due || len(k.reread) > 0
	if only != nil && !(k.readForData && data && others) {
		k.readForData = data
		return k.beginLocked("", only)
	}
	k.readForData = false
	for namespace := range k.reread {
		delete(k.reread, namespace)
		return k.beginLocked(namespace, nil)
	}
	if !due {
		return nil
	}
	return k.beginLocked("", nil)
}

// forData tells whether constraints are wanted only because of what they read
// beside the objects, which may change all the time.
func (k *kind) forData(only map[*constraint]bool) bool {
	for c := range only {
		if c.since > k.swept {
			return false
		}
	}
	return true
}

// wants are the constraints that have changed since the kind was read, or whose
// data has; nil if there are none. The caller holds the lock.
func (k *kind) wants() map[*constraint]bool {
	if k.wanted <= k.swept {
		return nil
	}
	only := map[*constraint]bool{}
	for c := range k.constraints {
		if max(c.since, c.data) > k.swept {
			only[c] = true
		}
	}
	if len(only) > 0 {
		return only
	}
	k.swept = k.wanted // they are gone again
	return nil
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
