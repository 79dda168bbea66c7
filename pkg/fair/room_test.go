package fair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/fair"
)

func brief(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// TestRoomGivesWay: the source that holds the most gives way to others, by what came
// last, and what is kept does not.
func TestRoomGivesWay(t *testing.T) {
	r := fair.NewRoom(100, 100)
	left := make(chan int, 3)
	var claims []*fair.Claim
	for i := range 3 {
		var c *fair.Claim
		c = r.Enter(flow("forger", "x"), func() { left <- i; go c.Leave() })
		if err := c.Grow(t.Context(), 33); err != nil {
			t.Fatal(err)
		}
		claims = append(claims, c)
	}
	if !claims[2].Keep() {
		t.Fatal("it has to leave before anybody asked")
	}
	honest := r.Enter(flow("honest", "y"), func() { t.Error("the honest one has to leave") })
	if err := honest.Grow(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	if got := <-left; got != 1 {
		t.Errorf("%d left, want 1: the last that was not kept", got)
	}
	if err := claims[0].Grow(brief(t), 30); !errors.Is(err, fair.ErrFull) {
		t.Errorf("got %v: it holds more than the other", err)
	}
	for _, c := range append(claims, honest) {
		c.Leave()
		c.Leave()
	}
	if !r.Idle() {
		t.Error("something is still held")
	}
}

// TestRoomOfAFlow: a flow does not take what others of its source may need, is told
// that it is its own load, and two that wait for each other do not.
func TestRoomOfAFlow(t *testing.T) {
	for _, reserved := range []bool{false, true} {
		want := fair.ErrShare
		if reserved {
			want = fair.ErrFull
		}
		r := fair.NewRoom(100, 50)
		key := fair.Key{Source: "a", Reserved: reserved, Flow: "x"}
		first, second := r.Enter(key, func() { t.Error("the first has to leave") }), r.Enter(key, func() { t.Error("the second has to leave") })
		if err := errors.Join(first.Grow(t.Context(), 30), second.Grow(t.Context(), 20)); err != nil {
			t.Fatal(err)
		}
		if err := second.Grow(t.Context(), 10); !errors.Is(err, want) {
			t.Errorf("reserved %v: got %v at once, want %v", reserved, err, want)
		}
		first.Whole()
		if err := second.Grow(brief(t), 10); !errors.Is(err, want) {
			t.Errorf("reserved %v: got %v, want %v once it has waited", reserved, err, want)
		}
		other := r.Enter(flow("a", "y"), nil)
		if err := other.Grow(t.Context(), 50); err != nil {
			t.Errorf("another flow: %v", err)
		}
		grown := make(chan error)
		go func() { grown <- second.Grow(t.Context(), 10) }()
		first.Leave()
		if err := <-grown; err != nil {
			t.Errorf("after the first left: %v", err)
		}
	}
}

// TestRoomDoesNotLeak: whatever leaves when, there is never more taken than there
// is, and nothing in the end.
func TestRoomDoesNotLeak(t *testing.T) {
	const size = 1000
	r := fair.NewRoom(size, 400)
	var mu sync.Mutex
	var used int64
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
				c := r.Enter(fair.Key{Source: fmt.Sprint(random.IntN(3)), Flow: fmt.Sprint(random.IntN(2))}, cancel)
				var held int64
				for range random.IntN(5) {
					n := 1 + random.Int64N(150)
					if c.Grow(ctx, n) != nil {
						break
					}
					held += n
					mu.Lock()
					if used += n; used > size {
						t.Errorf("%d bytes are taken", used)
					}
					mu.Unlock()
				}
				if random.IntN(2) == 0 {
					c.Keep()
				}
				mu.Lock()
				used -= held
				mu.Unlock()
				c.Leave()
				cancel()
			}
		})
	}
	wg.Wait()
	if !r.Idle() {
		t.Error("something is still held")
	}
}
