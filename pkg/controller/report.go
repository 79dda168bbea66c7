package controller

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/workqueue"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

const (
	// reporters is how many statuses are written at a time.
	reporters = 4
	// writeTimeout bounds one write of a status.
	writeTimeout = 10 * time.Second
)

// report is what ingesting an object came to.
type report struct {
	object   *unstructured.Unstructured
	enforced bool // of constraints only
	// inventory is of templates only.
	inventory *status.Inventory
	errs      []status.Error
	// interpreted is why a template does not run compiled.
	interpreted string
	faults      status.Faults // of constraints only
}

// reports writes into the objects' status what ingesting them came to. It works
// beside the reconciler, so that an API server which is slow to write does not
// keep policies out of the engine. Of each object only the latest report waits.
type reports struct {
	writer *status.Writer
	log    logr.Logger
	queue  workqueue.TypedRateLimitingInterface[key]

	mu     sync.Mutex
	latest map[key]report
}

func newReports(w *status.Writer, log logr.Logger) *reports {
	return &reports{
		writer: w, log: log, latest: map[key]report{},
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[key](200*time.Millisecond, 30*time.Second)),
	}
}

// put has r written in place of what was to be written of k.
func (r *reports) put(k key, what report) {
	r.mu.Lock()
	r.latest[k] = what
	r.mu.Unlock()
	r.queue.Add(k)
}

// drop has nothing written of k, which is gone.
func (r *reports) drop(k key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.latest, k)
}

// dropKind has nothing written of the constraints of kind, which is gone.
func (r *reports) dropKind(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.latest, func(k key, _ report) bool { return k.kind == kind })
}

func (r *reports) take(k key) (report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what, waiting := r.latest[k]
	return what, waiting
}

// done forgets what has been written, unless there is something newer.
func (r *reports) done(k key, written report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest[k].object == written.object {
		delete(r.latest, k)
	}
}

// NeedLeaderElection is false: every process reports on its own.
func (r *reports) NeedLeaderElection() bool { return false }

// Start writes until ctx ends.
func (r *reports) Start(ctx context.Context) error {
	var workers sync.WaitGroup
	for range reporters {
		workers.Go(func() {
			for r.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	r.queue.ShutDown()
	workers.Wait()
	return nil
}

// next writes one report and tells whether to go on.
func (r *reports) next(ctx context.Context) bool {
	k, shutdown := r.queue.Get()
	if shutdown {
		return false
	}
	defer r.queue.Done(k)
	what, waiting := r.take(k)
	if !waiting || ctx.Err() != nil {
		r.queue.Forget(k)
		return true
	}
	err := r.write(ctx, k, what)
	if ctx.Err() != nil {
		return true // told to stop: that is no failure
	}
	if err != nil {
		r.failed(k, err)
		r.queue.AddRateLimited(k)
		return true
	}
	r.done(k, what)
	r.queue.Forget(k)
	return true
}

// upToDate tells whether an entry of status.byPod is about this version of the
// object.
func upToDate(entry map[string]any, u *unstructured.Unstructured) bool {
	uid := entry["templateUID"]
	if u.GroupVersionKind().Group == engine.ConstraintGroup {
		uid = entry["constraintUID"]
	}
	return entry["observedGeneration"] == u.GetGeneration() && uid == string(u.GetUID())
}

// errorsOf is what an entry of status.byPod says is wrong.
func errorsOf(entry map[string]any) []any {
	errs, _ := entry["errors"].([]any)
	return errs
}

func (r *reports) write(ctx context.Context, k key, what report) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if k.kind == "" {
		return r.writer.Template(ctx, what.object, what.errs, what.inventory, what.interpreted)
	}
	return r.writer.Constraint(ctx, what.object, what.enforced, what.errs, what.faults)
}

// failed logs the first of a series of failures. That the object has changed
// or gone meanwhile is none: its event brings a newer report, or the end of it.
func (r *reports) failed(k key, err error) {
	if r.queue.NumRequeues(k) > 0 || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		r.log.V(1).Info("status not written; trying again", "object", k.String(), "reason", err.Error())
		return
	}
	r.log.Error(err, "status not written; trying again", "object", k.String())
}
