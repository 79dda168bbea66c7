package app

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

func TestSilence(t *testing.T) {
	start := time.Unix(1e9, 0)
	l := silence{seen: 3, since: start}
	for i, tc := range []struct {
		n        uint64
		at, want time.Duration
	}{{3, 4 * time.Second, 4 * time.Second}, {6, 5 * time.Second, 0}, {6, 9 * time.Second, 4 * time.Second}, {8, 10 * time.Second, 5 * time.Second}, {11, 11 * time.Second, 0}} {
		if got := l.lasts(tc.n, start.Add(tc.at)); got != tc.want {
			t.Errorf("step %d: the count has been %d for %v, want %v", i, tc.n, got, tc.want)
		}
	}
}

// TestHeld: what is taken shows, so that it is worth giving back.
func TestHeld(t *testing.T) {
	before := held()
	taken := make([]byte, 4*worthwhile)
	for i := range taken {
		taken[i] = 1
	}
	if after := held(); before == 0 || after < before+worthwhile {
		t.Errorf("holds %d bytes after taking %d, held %d before", after, len(taken), before)
	}
	runtime.KeepAlive(taken)
}

// TestWorked takes memory while it is looked whether some is worth giving back.
func TestWorked(t *testing.T) {
	const look, quiet = 10 * time.Millisecond, 200 * time.Millisecond
	for name, tc := range map[string]struct {
		reason  string
		takes   int64 // bytes, at each step
		reviews int   // at each step, about the time of a look
		seldom  bool  // one in tens of steps
		changes bool
		first   bool // policies have changed, and memory was not given back since
		want    bool
	}{
		"Quiet":   {reason: "nothing is reviewed any more", takes: worthwhile, want: true},
		"Busy":    {reason: "reviews go on", takes: worthwhile, reviews: 20},
		"Canary":  {reason: "a review now and then is no load", takes: worthwhile, seldom: true, want: true},
		"Little":  {reason: "there is nothing to give back"},
		"First":   {reason: "what policies have taken is given back even if reviews took nothing", first: true, want: true},
		"Loaded":  {reason: "but not while reviews would wait for that", first: true, reviews: 20},
		"Changed": {reason: "templates and constraints are waited for apart", takes: worthwhile, reviews: 20, changes: true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := engine.New()
			if err != nil {
				t.Fatal(err)
			}
			debug.FreeOSMemory() // or what the case before took is taken again
			limit := 5 * quiet
			if tc.want {
				limit = time.Minute
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			changed, got := make(chan struct{}), make(chan bool, 1)
			least := worthwhile
			if tc.first {
				least = anything
			}
			reviews := &silence{seen: e.Reviewed(), since: time.Now()}
			go func() { got <- thrift{engine: e}.worked(ctx, changed, reviews, least, look, quiet) }()
			if tc.changes {
				close(changed)
			}
			var taken [][]byte
			step := time.NewTicker(quiet / 20)
			defer step.Stop()
			for steps := 1; ; steps++ {
				if tc.seldom && steps%20 == 0 {
					e.Review(t.Context(), &policy.Review{})
				}
				select {
				case now := <-got:
					if now != tc.want {
						t.Errorf("got %t, want %t: %s", now, tc.want, tc.reason)
					}
					runtime.KeepAlive(taken)
					return
				case <-step.C:
					if len(taken) < 8 {
						taken = append(taken, make([]byte, tc.takes))
					}
					for range tc.reviews {
						e.Review(t.Context(), &policy.Review{})
					}
				}
			}
		})
	}
}
