package audit

import (
	"bytes"
	"context"
	"sync"
)

// ahead is how many objects may be read ahead of their reviews.
const ahead = 64

// reading is a list in progress: of a kind, or of one namespace of it. Its
// fields are guarded by the Auditor's lock, but for those that never change.
type reading struct {
	id uint64
	// namespace is empty for the whole kind.
	namespace string
	// only are the constraints that judge, nil for all.
	only map[*constraint]bool
	// sequence is what the constraints asked when it began.
	sequence uint64
	// touched are the objects of which an event came since it began: what the
	// list says of them may be old.
	touched map[objectKey]bool
	// came are the objects that came and went meanwhile.
	came []arrival
	// version is as of when the list is.
	version uint64
	listed  int64
	ragged  bool
	// compare tells that nothing but what went wrong should change by it, and
	// changed what did.
	compare bool
	changed map[objectKey]bool
	err     error // an object that could not be decoded
}

// arrival is that of an object, or with a negative n its departure.
type arrival struct {
	version uint64
	n       int64
}

// whole tells whether everything of the kind is read for all constraints.
func (r *reading) whole() bool { return r.namespace == "" && r.only == nil }

// begin starts a reading: of a namespace or, if that is empty, of the kind, by
// some constraints or, if only is nil, by all.
func (k *kind) begin(namespace string, only map[*constraint]bool) *reading {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	return k.beginLocked(namespace, only)
}

// beginLocked is begin for a caller that holds the lock.
func (k *kind) beginLocked(namespace string, only map[*constraint]bool) *reading {
	k.a.readings++
	r := &reading{
		id: k.a.readings, namespace: namespace, only: only, sequence: k.a.sequence,
		touched: map[objectKey]bool{}, changed: map[objectKey]bool{},
	}
	if r.whole() {
		// What changes is followed, and nothing else is on its way.
		r.compare = k.followed && k.swept == r.sequence && len(k.reread) == 0
		clear(k.reread) // all of them are read
	}
	k.active[r] = true
	return r
}

func (k *kind) end(r *reading) {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	delete(k.active, r)
}

// read lists and reviews. It calls began once it is known as of when the list
// is.
func (k *kind) read(ctx context.Context, r *reading, began func(version string)) error {
	defer k.end(r)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case k.a.listings <- struct{}{}:
		defer func() { <-k.a.listings }()
	}
	waiting := k.startWorkers(ctx, r)
	ragged, err := k.list(ctx, r.namespace, reader{
		began: func(version string) { k.dated(r, version); began(version) },
		each:  func(text []byte) error { return waiting.queue(ctx, text) },
		page:  func(n int64) { k.turned(r, n) },
	})
	waiting.stop()
	switch {
	case err != nil:
		return err
	case r.err != nil:
		return k.failure(verbList, r.err)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	r.ragged = ragged
	k.complete(r)
	return nil
}

// buffers hold objects that wait for their review.
var buffers = sync.Pool{New: func() any { return &bytes.Buffer{} }}

// largeBuffer is the size from which on a buffer is not kept.
const largeBuffer = 64 << 10

// backlog are the objects of a list that wait for their review, and who reviews them.
type backlog struct {
	texts chan *bytes.Buffer
	tasks sync.WaitGroup
}

// startWorkers reviews what is queued until stop is called.
func (k *kind) startWorkers(ctx context.Context, r *reading) *backlog {
	b := &backlog{texts: make(chan *bytes.Buffer, ahead)}
	for range cap(k.a.workers) {
		b.tasks.Go(func() {
			for text := range b.texts {
				k.reviewListed(ctx, r, text)
			}
		})
	}
	return b
}

func (b *backlog) queue(ctx context.Context, text []byte) error {
	buffer, _ := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	buffer.Write(text)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case b.texts <- buffer:
		return nil
	}
}

func (b *backlog) stop() {
	close(b.texts)
	b.tasks.Wait()
}

// reviewListed reviews an object of a list.
func (k *kind) reviewListed(ctx context.Context, r *reading, text *bytes.Buffer) {
	if !k.a.work(ctx) {
		return
	}
	defer k.a.rest()
	u, err := k.object(text.Bytes())
	if text.Cap() <= largeBuffer {
		buffers.Put(text)
	}
	if err != nil {
		k.a.mu.Lock()
		defer k.a.mu.Unlock()
		r.err = err
		return
	}
	k.review(ctx, u, r)
}

// dated notes as of when a list is.
func (k *kind) dated(r *reading, version string) {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	r.version = number(version)
}

// turned notes the end of a page.
func (k *kind) turned(r *reading, n int64) {
	k.a.mu.Lock()
	r.listed += n
	k.a.mu.Unlock()
	k.a.progressed(0, n)
}

// complete ends a reading that came to the end: what it has not seen is gone.
func (k *kind) complete(r *reading) {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	delete(k.active, r)
	k.a.stirred = true
	switch {
	case r.whole():
		k.completeWhole(r)
	case r.only != nil:
		k.completeSome(r)
	}
	k.touchAll()
}

// completeWhole takes over what a reading of the whole kind has found.
func (k *kind) completeWhole(r *reading) {
	for key, rec := range k.records {
		if rec.reading < r.id && !r.touched[key] {
			k.put(key, nil)
			r.changed[key] = true
		}
	}
	k.objects, k.counted = r.listed, r.version
	for _, a := range r.came {
		if after(a.version, r.version) {
			k.objects += a.n
		}
	}
	// Other constraints find other things: that is no drift.
	if r.compare && r.sequence == k.a.sequence {
		k.suspect(r)
	}
	k.swept, k.sweptAt, k.blind, k.blindSaid, k.ragged = r.sequence, k.a.o.Clock.Now(), zeroTime, false, r.ragged
	clear(k.readAt)
	k.mended()
}

// after compares versions; what cannot be compared is taken to be later.
func after(a, b uint64) bool { return a == 0 || b == 0 || a > b }

// completeSome takes over what a reading by some constraints has found.
func (k *kind) completeSome(r *reading) {
	now := k.a.o.Clock.Now()
	for c := range r.only {
		if k.constraints[c] {
			k.readAt[c] = now
		}
	}
	for key, rec := range k.records {
		if rec.reading < r.id && !r.touched[key] {
			k.put(key, rec.without(r.only))
		}
	}
	k.swept = r.sequence
}

// suspect keeps the objects of which a reading found other than what was known.
// It is drift unless the watch brings a change of them that the list was ahead
// by.
func (k *kind) suspect(r *reading) {
	k.suspects, k.suspectedAt = r.changed, r.version
	for key := range r.touched {
		delete(k.suspects, key)
	}
	if r.version == 0 || r.ragged {
		k.suspects = nil // it cannot be told
	}
}

// passed notes that the watch has come to a version. The caller holds the lock.
func (k *kind) passed(version uint64) {
	if version < k.suspectedAt || len(k.suspects) == 0 {
		return
	}
	k.a.metrics.drift.WithLabelValues(k.gvk.Group, k.gvk.Kind).Add(float64(len(k.suspects)))
	k.a.o.Log.Info("a full read corrected the audit", "kind", k.gvk.String(), "objects", len(k.suspects))
	k.suspects = nil
}
