package fair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/fair"
)

// world drives a queue by a clock of its own: what happens in it is settled before
// the next thing does.
type world struct {
	t     *testing.T
	q     *fair.Queue
	mu    sync.Mutex
	now   time.Time
	ended chan *request
}

type request struct {
	key     fair.Key
	cancel  context.CancelFunc
	release func()
	err     error
}

func newWorld(t *testing.T, o fair.Options) *world {
	w := &world{t: t, now: time.Unix(0, 0), ended: make(chan *request, 1000)}
	o.Now = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}
	w.q = fair.NewQueue(o)
	return w
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) waiting() int {
	_, waiting := w.q.InProgress()
	return waiting
}

// ask has a request come, and returns once it has a seat, waits or is turned away.
func (w *world) ask(key fair.Key, weight int64) *request {
	w.t.Helper()
	return w.askUntil(w.t.Context(), key, weight)
}

func (w *world) askUntil(ctx context.Context, key fair.Key, weight int64) *request {
	w.t.Helper()
	before := w.waiting()
	ctx, cancel := context.WithCancel(ctx)
	r := &request{key: key, cancel: cancel}
	done := make(chan struct{})
	go func() {
		r.release, r.err = w.q.Acquire(ctx, key, weight)
		close(done)
		w.ended <- r
	}()
	for deadline := time.Now().Add(10 * time.Second); w.waiting() == before; runtime.Gosched() {
		select {
		case <-done:
			return r
		default:
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the request neither waits nor has a seat")
		}
	}
	return r
}

// next is who was settled next.
func (w *world) next() *request {
	w.t.Helper()
	select {
	case r := <-w.ended:
		return r
	case <-time.After(10 * time.Second):
		w.t.Fatal("nobody got a seat")
		return nil
	}
}

func flow(source, name string) fair.Key { return fair.Key{Source: source, Flow: name} }

// TestFlowsShareSeats: a flow with a thousand requests has no more of the seats'
// time than one that has always just one more, and neither has a source with many
// flows more than one with a single one.
func TestFlowsShareSeats(t *testing.T) {
	cases := map[string]struct {
		reason string
		flows  []fair.Key
		share  func(fair.Key) string
	}{
		"Flows":   {"flows of a source", []fair.Key{flow("a", "1"), flow("a", "2"), flow("a", "3")}, func(k fair.Key) string { return k.Flow }},
		"Sources": {"sources", []fair.Key{flow("a", "1"), flow("a", "2"), flow("a", "3"), flow("b", "1"), flow("c", "1"), {Source: "a", Reserved: true, Flow: "1"}}, func(k fair.Key) string { return k.Source }},
		"Lanes": {"lanes of a source", []fair.Key{flow("a", "1"), flow("a", "2"), flow("a", "3"), {Source: "a", Reserved: true, Flow: "1"}},
			func(k fair.Key) string { return fmt.Sprint(k.Reserved) }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			w := newWorld(t, fair.Options{Seats: 4, Busy: 4, Waiting: 1000})
			for i, k := range tc.flows {
				for range 150 + 100*i {
					w.ask(k, 0)
				}
			}
			had := map[string]time.Duration{}
			var running []*request
			for range 150 {
				for seated, _ := w.q.InProgress(); len(running) < seated; {
					running = append(running, w.next())
				}
				at := random.IntN(len(running))
				if running[at].key.Flow == "3" && random.IntN(5) > 0 {
					continue // its requests are long
				}
				took := time.Duration(1+random.IntN(10)) * time.Millisecond
				w.pass(took)
				for _, r := range running {
					had[tc.share(r.key)] += took
				}
				running[at].release()
				running = append(running[:at], running[at+1:]...)
			}
			least, most := time.Hour, time.Duration(0)
			for _, d := range had {
				least, most = min(least, d), max(most, d)
			}
			if len(had) < 2 || most > least*3/2 {
				t.Errorf("%s had %v of the seats' time", tc.reason, had)
			}
		})
	}
}

// TestNewcomerGetsASeat: however much one flow asks for, another's first request has
// a seat at once, and so has one from another source and one in the other lane.
func TestNewcomerGetsASeat(t *testing.T) {
	w := newWorld(t, fair.Options{Seats: 16, Busy: 4, Waiting: 1000})
	for _, source := range []string{"a", "b", "c"} {
		for range 100 {
			w.ask(flow(source, "flood"), 0)
		}
	}
	for _, k := range []fair.Key{flow("a", "honest"), flow("b", "honest"), flow("d", "honest"), {Source: "a", Reserved: true, Flow: "flood"}} {
		if r := w.ask(k, 0); r.err != nil || r.release == nil {
			t.Errorf("%+v: got %v, want a seat at once", k, r.err)
		}
	}
}

// TestBlame: who is turned away for its own load, and who for others'.
func TestBlame(t *testing.T) {
	acquire := func(w *world, key fair.Key, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		release, err := w.q.Acquire(ctx, key, 0)
		if err == nil {
			release()
		}
		return err
	}
	t.Run("OwnLoad", func(t *testing.T) {
		w := newWorld(t, fair.Options{Seats: 8, Busy: 4})
		for range 4 {
			w.ask(flow("a", "x"), 0)
		}
		w.pass(time.Hour) // those that run take an hour
		ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0).Add(time.Hour+time.Second))
		defer cancel()
		if _, err := w.q.Acquire(ctx, flow("a", "x"), 0); !errors.Is(err, fair.ErrShare) {
			t.Errorf("got %v, want ErrShare", err)
		}
	})
	t.Run("Others", func(t *testing.T) {
		w := newWorld(t, fair.Options{Seats: 4, Busy: 4})
		for i := range 20 {
			w.ask(flow(fmt.Sprint(i%5), fmt.Sprint(i)), 0)
		}
		w.pass(time.Second)
		if err := acquire(w, flow("a", "x"), 20*time.Millisecond); !errors.Is(err, fair.ErrFull) {
			t.Errorf("got %v, want ErrFull: nothing of its own is in the way", err)
		}
	})
	t.Run("InVain", func(t *testing.T) {
		other := flow("b", "forger")
		for name, tc := range map[string]struct {
			reason string
			weight int64
			first  []fair.Key
			want   error
		}{
			"Own":     {"its flow has all the seats that it may have", 0, []fair.Key{flow("a", "x"), flow("a", "x")}, fair.ErrShare},
			"Share":   {"its flow has as many as the others of its source", 0, []fair.Key{flow("a", "x"), flow("a", "y"), flow("a", "z"), flow("a", "q")}, fair.ErrShare},
			"Less":    {"another flow of its source has more than its share", 0, []fair.Key{flow("a", "x"), flow("a", "y"), flow("a", "y"), other}, fair.ErrFull},
			"Source":  {"another source has the seats", 0, []fair.Key{flow("a", "x"), other, other, {Source: "c", Flow: "forger"}}, fair.ErrFull},
			"Nothing": {"its flow has none", 0, []fair.Key{flow("a", "y"), flow("a", "y"), flow("a", "z"), flow("a", "z"), flow("b", "1"), flow("b", "2"), flow("c", "1"), flow("c", "2")}, fair.ErrFull},
			"Heavy":   {"its flow has all of the weight", 10, []fair.Key{flow("a", "x")}, fair.ErrShare},
			"Others":  {"others have the weight", 10, []fair.Key{flow("a", "y")}, fair.ErrFull},
		} {
			w := newWorld(t, fair.Options{Seats: 8, Busy: 4, Weight: tc.weight})
			for _, k := range tc.first {
				w.ask(k, tc.weight)
				w.next()
			}
			waiting := w.ask(flow("a", "x"), tc.weight)
			w.pass(time.Second)
			waiting.cancel()
			if got := w.next(); got != waiting || !errors.Is(got.err, tc.want) {
				t.Errorf("%s, %s: got %v, want %v", name, tc.reason, got.err, tc.want)
			}
		}
	})
	t.Run("Reserved", func(t *testing.T) {
		w := newWorld(t, fair.Options{Seats: 4, Busy: 4, Waiting: 10})
		key := fair.Key{Source: "a", Reserved: true, Flow: "x"}
		for range 12 {
			w.ask(key, 0)
		}
		w.pass(time.Hour)
		if err := acquire(w, key, time.Second); !errors.Is(err, fair.ErrFull) {
			t.Errorf("got %v, want ErrFull: a controller is never told that it asks too much", err)
		}
	})
	t.Run("ReservedWaits", func(t *testing.T) {
		w := newWorld(t, fair.Options{Seats: 4, Busy: 4})
		w.pass(time.Since(time.Unix(0, 0)))
		for _, reserved := range []bool{false, true} {
			key := fair.Key{Source: fmt.Sprint("a", reserved), Reserved: reserved, Flow: "x"}
			for range 4 {
				w.ask(key, 0)
			}
		}
		w.pass(time.Hour) // those that run take an hour
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Minute)
		defer cancel()
		for _, reserved := range []bool{false, true} {
			before := w.waiting()
			r := w.askUntil(ctx, fair.Key{Source: fmt.Sprint("a", reserved), Reserved: reserved, Flow: "x"}, 0)
			if waits := w.waiting() > before; waits != reserved {
				t.Errorf("reserved %t: waits %t, error %v", reserved, waits, r.err)
			}
		}
	})
	t.Run("ForgersElsewhere", func(t *testing.T) {
		// What others do in the name of a flow, from elsewhere, is not its load.
		w := newWorld(t, fair.Options{Seats: 4, Busy: 4, Waiting: 10})
		for i := range 60 {
			w.ask(flow(fmt.Sprintf("forger-%d", i%6), "x"), 0)
		}
		w.pass(time.Hour)
		if err := acquire(w, flow("a", "x"), 20*time.Millisecond); errors.Is(err, fair.ErrShare) {
			t.Errorf("got %v for what forgers did", err)
		}
	})
}

// TestHeavy: one that is heavier than what is left waits, has its turn, and does not
// stay in the way when it gives up.
func TestHeavy(t *testing.T) {
	w := newWorld(t, fair.Options{Seats: 8, Busy: 8, Weight: 10})
	first := w.ask(flow("a", "1"), 6)
	heavy := w.ask(flow("a", "2"), 100)
	light := w.ask(flow("a", "3"), 1)
	if w.next() != first || w.waiting() != 2 {
		t.Fatalf("%d wait, want the heavy one and the one behind it", w.waiting())
	}
	heavy.cancel()
	if r := w.next(); r != heavy || !errors.Is(r.err, fair.ErrFull) {
		t.Fatalf("got %+v", r)
	}
	if r := w.next(); r != light || r.err != nil {
		t.Fatalf("got %+v, want the light one to have a seat", r)
	}
	again := w.ask(flow("a", "2"), 100)
	first.release()
	light.release()
	if r := w.next(); r != again || r.err != nil {
		t.Errorf("got %+v, want the heavy one alone to have its seat", r)
	}
}

// TestNothingLeaks: whatever is canceled or turned away, nobody holds anything in
// the end, and never more than there is.
func TestNothingLeaks(t *testing.T) {
	const seats, weight = 6, 20
	q := fair.NewQueue(fair.Options{Seats: seats, Busy: 4, Weight: weight, Waiting: 8})
	var mu sync.Mutex
	var inside, heavy int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 200 {
				key := fair.Key{Source: fmt.Sprint(random.IntN(3)), Reserved: random.IntN(4) == 0, Flow: fmt.Sprint(random.IntN(4))}
				w := 1 + random.Int64N(12)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(2000))*time.Microsecond)
				release, err := q.Acquire(ctx, key, w)
				if err == nil {
					mu.Lock()
					inside, heavy = inside+1, heavy+w
					if inside > seats || heavy > weight {
						t.Errorf("%d are inside, with a weight of %d", inside, heavy)
					}
					mu.Unlock()
					for range random.IntN(20) {
						runtime.Gosched() // others come while it holds its seat
					}
					mu.Lock()
					inside, heavy = inside-1, heavy-w
					mu.Unlock()
					release()
					release() // once more does nothing
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if !q.Idle() {
		t.Error("something is still held")
	}
}
