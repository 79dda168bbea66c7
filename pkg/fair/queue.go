package fair

import (
	"cmp"
	"context"
	"math"
	"sync"
	"time"
)

// Options of a Queue.
type Options struct {
	// Seats is how many requests are worked on at a time. A source has three
	// quarters of them at most, and a lane of it half, so that others find some.
	Seats int
	// Busy is how many seats are taken before a flow that has one gets no other. A
	// flow has half of Busy at most, so that whoever has none gets one at once.
	Busy int
	// Weight bounds the weights of the requests that are worked on; zero stands
	// for no bound.
	Weight int64
	// Waiting is how many requests of a flow wait at most; zero stands for 256.
	Waiting int
	// Now is the time; nil stands for time.Now.
	Now func() time.Time
}

// Queue gives seats to those who wait for one: the next goes to the source that has
// the fewest, in it to the lane that has the fewest, and in that to the flow that
// has the fewest; among equals to the one that has had the least. It is safe for
// concurrent use, and holds nothing of who neither has nor waits.
type Queue struct {
	o Options

	mu      sync.Mutex
	seats   int
	weight  int64
	waiting int
	sources map[string]*level
	lanes   map[lane]*level
	flows   map[Key]*flow
}

// level is what a source, a lane or a flow has.
type level struct {
	seats int
	// had is for how long it has had seats, in seconds of seats. One that comes
	// anew begins with the least that any of the others has had.
	had float64
	// members are the requests that it has, with a seat or without.
	members int
}

type flow struct {
	level
	key          Key
	source, lane *level
	waiting      []*ticket
	running      []*ticket // in the order in which they began
	// each is how long a request takes, by those that have ended.
	each time.Duration
}

type ticket struct {
	flow     *flow
	weight   int64
	patience time.Duration
	began    time.Time
	ready    chan struct{} // closed once it has a seat
}

// NewQueue returns a queue with nobody in it.
func NewQueue(o Options) *Queue {
	o.Waiting = cmp.Or(o.Waiting, 256)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Queue{o: o, sources: map[string]*level{}, lanes: map[lane]*level{}, flows: map[Key]*flow{}}
}

// Acquire waits for a seat until ctx ends. The caller calls release once when it is
// done. A weight beyond the bound counts as the bound. The error is ErrShare or
// ErrFull.
//
// One that has waited in vain is turned away for its own load if its flow has its share.
// A request is turned away before it has waited where its flow has so much in
// progress that it would wait longer than its time, were the flow alone. The time
// that a request of the flow takes is counted by the clock, so that others may
// double it, as they can take as many seats again, and not more.
func (q *Queue) Acquire(ctx context.Context, key Key, weight int64) (release func(), err error) {
	if q.o.Weight > 0 {
		weight = min(weight, q.o.Weight)
	}
	t := &ticket{weight: weight, patience: math.MaxInt64, ready: make(chan struct{})}
	q.mu.Lock()
	now := q.o.Now()
	if deadline, ok := ctx.Deadline(); ok {
		t.patience = deadline.Sub(now)
	}
	f := q.enter(key)
	t.flow = f
	if (!key.Reserved && q.excessive(f, t.patience)) || len(f.waiting) >= q.o.Waiting {
		q.leave(f)
		q.mu.Unlock()
		return nil, blame(!key.Reserved)
	}
	f.waiting = append(f.waiting, t)
	q.waiting++
	q.dispatch()
	q.mu.Unlock()
	select {
	case <-t.ready:
		return func() { q.release(t) }, nil
	case <-ctx.Done():
		return q.giveUp(t)
	}
}

func blame(own bool) error {
	if own {
		return ErrShare
	}
	return ErrFull
}

// giveUp takes t out of the queue, unless it has got a seat meanwhile.
func (q *Queue) giveUp(t *ticket) (release func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := t.flow
	for i, w := range f.waiting {
		if w == t {
			err = blame(!f.key.Reserved && (q.excessive(f, t.patience) || q.hasShare(f)))
			f.waiting = append(f.waiting[:i:i], f.waiting[i+1:]...)
			q.waiting--
			q.leave(f)
			q.dispatch() // it may have been too heavy, and in the way
			return nil, err
		}
	}
	return func() { q.release(t) }, nil
}

// excessive tells whether what f has in progress would take longer than patience,
// were it alone. It does not depend on other sources, nor on other flows but for
// what they add to the time that a request takes.
func (q *Queue) excessive(f *flow, patience time.Duration) bool {
	each := f.each
	if len(f.running) > 0 {
		each = max(each, q.o.Now().Sub(f.running[0].began))
	}
	seats := q.flowSeats()
	n := len(f.waiting) + len(f.running)
	return n >= seats && each.Seconds()*float64(n)/float64(seats) > patience.Seconds()
}

// hasShare tells whether the flow has its share of the seats or of the weight, were its
// source alone. A request that waited meanwhile did so for what its own flow has; when
// many give up at once, too few wait in the end to be excessive.
func (q *Queue) hasShare(f *flow) bool {
	flows, weight := 0, int64(0)
	for k := range q.flows {
		if k.Source == f.key.Source {
			flows++
		}
	}
	for _, t := range f.running {
		weight += t.weight
	}
	return f.seats >= q.flowSeats() || f.seats*flows >= q.o.Busy || q.o.Weight > 0 && weight*int64(flows) >= q.o.Weight
}

func (q *Queue) flowSeats() int { return max(1, q.o.Busy/2) }

// enter counts one more member of the flow and of what it belongs to.
func (q *Queue) enter(key Key) *flow {
	f := q.flows[key]
	if f == nil {
		f = &flow{key: key, source: q.sources[key.Source], lane: q.lanes[key.lane()]}
		if f.source == nil {
			f.source = &level{had: leastHad(q.sources, func(string) bool { return true })}
			q.sources[key.Source] = f.source
		}
		if f.lane == nil {
			f.lane = &level{had: leastHad(q.lanes, func(l lane) bool { return l.source == key.Source })}
			q.lanes[key.lane()] = f.lane
		}
		f.had = leastHad(q.flows, func(k Key) bool { return k.lane() == key.lane() })
		q.flows[key] = f
	}
	f.members++
	f.lane.members++
	f.source.members++
	return f
}

// spent is for how long it has had seats.
func (l *level) spent() float64 { return l.had }

func leastHad[K comparable, V interface{ spent() float64 }](levels map[K]V, among func(K) bool) float64 {
	least, some := 0.0, false
	for k, l := range levels {
		if among(k) && (!some || l.spent() < least) {
			least, some = l.spent(), true
		}
	}
	return least
}

// leave undoes enter.
func (q *Queue) leave(f *flow) {
	f.members--
	f.lane.members--
	f.source.members--
	if f.members == 0 {
		delete(q.flows, f.key)
	}
	if f.lane.members == 0 {
		delete(q.lanes, f.key.lane())
	}
	if f.source.members == 0 {
		delete(q.sources, f.key.Source)
	}
}

// dispatch gives seats to those who wait, as long as there are any for them. A
// request whose turn it is and that is too heavy is waited for.
func (q *Queue) dispatch() {
	for q.waiting > 0 {
		f := q.next()
		if f == nil {
			return
		}
		t := f.waiting[0]
		if q.o.Weight > 0 && q.weight+t.weight > q.o.Weight {
			return
		}
		f.waiting = f.waiting[1:]
		q.waiting--
		f.running = append(f.running, t)
		q.count(f, t, 1)
		t.began = q.o.Now()
		close(t.ready)
	}
}

// next is the flow whose turn it is, nil if nobody who waits may have a seat.
func (q *Queue) next() (best *flow) {
	for _, f := range q.flows {
		if len(f.waiting) > 0 && q.mayHave(f) && (best == nil || before(f, best)) {
			best = f
		}
	}
	return best
}

func (q *Queue) mayHave(f *flow) bool {
	if q.seats >= q.o.Seats || f.source.seats >= max(1, q.o.Seats*3/4) || f.lane.seats >= max(1, q.o.Seats/2) {
		return false
	}
	if f.key.Stranger && f.source.seats >= max(1, q.o.Seats/8) {
		return false
	}
	return f.seats == 0 || q.seats < q.o.Busy && f.seats < q.flowSeats()
}

func before(a, b *flow) bool {
	return cmp.Or(
		compare(a.source, b.source), compare(a.lane, b.lane), compare(&a.level, &b.level),
		cmp.Compare(a.key.Source, b.key.Source), cmp.Compare(a.key.Flow, b.key.Flow),
	) < 0
}

func compare(a, b *level) int {
	return cmp.Or(cmp.Compare(a.seats, b.seats), cmp.Compare(a.had, b.had))
}

// count adds n seats, one or minus one, to all that t belongs to.
func (q *Queue) count(f *flow, t *ticket, n int) {
	q.seats += n
	q.weight += int64(n) * t.weight
	f.seats += n
	f.lane.seats += n
	f.source.seats += n
}

func (q *Queue) release(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := t.flow
	for i, r := range f.running {
		if r != t {
			continue
		}
		took := q.o.Now().Sub(t.began)
		f.running = append(f.running[:i:i], f.running[i+1:]...)
		q.count(f, t, -1)
		for _, l := range []*level{f.source, f.lane, &f.level} {
			l.had += took.Seconds()
		}
		if f.each = (3*f.each + took) / 4; f.each < took/2 {
			f.each = took / 2 // also the first time
		}
		q.leave(f)
		q.dispatch()
		return
	}
}

// InProgress is how many requests have a seat, and how many wait for one.
func (q *Queue) InProgress() (seated, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seats, q.waiting
}

// Idle tells whether nobody has a seat or waits.
func (q *Queue) Idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seats == 0 && q.weight == 0 && q.waiting == 0 && len(q.sources)+len(q.lanes)+len(q.flows) == 0
}
