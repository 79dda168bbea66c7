package audit

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// reading is a list in progress: of a kind, or of one namespace of it. Its
// fields are guarded by the Auditor's lock, but for those that never change.
type reading struct {
	id uint64
	// namespace is empty for the whole kind.
	namespace string
	// sequence is what the constraints asked when it began.
	sequence uint64
	// touched are the objects of which an event came since it began: what the
	// list says of them is old.
	touched map[objectKey]bool
	listed  int64
	// compare tells that the tally should not change by it.
	compare bool
	drift   int64
}

// begin starts a reading; namespace is empty for the whole kind.
func (k *kind) begin(namespace string) *reading {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.a.readings++
	r := &reading{id: k.a.readings, namespace: namespace, sequence: k.a.sequence, touched: map[objectKey]bool{}}
	if namespace == "" {
		clear(k.reread) // all of them are read
		r.compare = k.comparable
		k.comparable = false
	}
	k.active[r] = true
	return r
}

func (k *kind) end(r *reading) {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	delete(k.active, r)
}

// followed notes that the kind can be read, and its watch begins anew.
func (k *kind) followed() {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.delta, k.following, k.a.stirred = 0, true, true
	if k.problem != nil {
		k.a.o.Log.Info("kind audited again", "kind", k.gvk.String())
		k.problem = nil
		k.touchAll()
	}
}

// expectSame notes that the reading to come should change nothing.
func (k *kind) expectSame() {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.comparable = len(k.reread) == 0
}

// sweep reviews the objects of a list from its first page on.
func (k *kind) sweep(ctx context.Context, r *reading, page *unstructured.UnstructuredList) error {
	for {
		k.reviewPage(ctx, r, page.Items)
		next := page.GetContinue()
		if next == "" || ctx.Err() != nil {
			return ctx.Err()
		}
		var err error
		if page, err = k.page(ctx, r.namespace, next); err != nil {
			return err
		}
	}
}

// reviewPage reviews objects, several at a time. They are let go one by one.
func (k *kind) reviewPage(ctx context.Context, r *reading, items []unstructured.Unstructured) {
	var tasks sync.WaitGroup
	next := make(chan *unstructured.Unstructured)
	for range min(cap(k.a.workers), len(items)) {
		tasks.Go(func() {
			for u := range next {
				k.review(ctx, u, r)
			}
		})
	}
	for i := range items {
		u := items[i]
		items[i] = unstructured.Unstructured{}
		if ctx.Err() == nil {
			next <- &u
		}
	}
	close(next)
	tasks.Wait()
	k.a.mu.Lock()
	r.listed += int64(len(items))
	k.a.mu.Unlock()
	k.a.progressed(0, int64(len(items)))
}

// complete ends a reading of the whole kind: what it has not seen is gone.
func (k *kind) complete(r *reading) {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	for key, rec := range k.records {
		if rec.reading < r.id && !r.touched[key] {
			k.put(key, nil)
			r.drift++
		}
	}
	delete(k.active, r)
	// Other constraints find other things: that is no drift.
	r.compare = r.compare && r.sequence == k.swept && r.sequence == k.a.sequence
	k.objects = r.listed + k.delta
	k.swept, k.sweptAt = r.sequence, k.a.o.Clock.Now()
	k.a.stirred = true
	k.touchAll()
	if r.compare && r.drift > 0 {
		k.a.metrics.drift.WithLabelValues(k.gvk.Group, k.gvk.Kind).Add(float64(r.drift))
		k.a.o.Log.Info("a full read corrected the audit", "kind", k.gvk.String(), "objects", r.drift)
	}
}
