package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// leisureRate is how many objects a second are written that nobody waits for,
	// and leisureBurst how many at once after a rest.
	leisureRate  = 5
	leisureBurst = 10
	// heldMost is how long next to nothing is written at leisure, at a stretch,
	// because others want the processors: on the API server's machine each write
	// costs it 10 ms, and 3 MB of garbage. Each heldAgain there is one, and
	// heldBurst at first.
	heldMost  = 10 * time.Minute
	heldAgain = 5 * time.Second
	heldBurst = 2
)

// Leisure spreads what a process writes although nobody waits for it: when one
// starts, or is gone, every template and constraint is to be written, and each
// write is an event for all processes. Who asks a webhook at that moment would
// feel hundreds at once. A nil Leisure puts nothing off. It is safe for
// concurrent use.
type Leisure struct {
	limiter *rate.Limiter
	trickle *rate.Limiter // while others want the processors
	crowded func() bool
	now     func() time.Time

	mu   sync.Mutex
	held time.Time // since when there is only that, zero if there is all
}

// NewLeisure returns the Leisure that the parts of a process share. crowded tells
// whether others want the processors, so that next to nothing is to be written
// for some minutes; it may be called at any time.
func NewLeisure(crowded func() bool) *Leisure {
	return &Leisure{
		limiter: rate.NewLimiter(leisureRate, leisureBurst), trickle: rate.NewLimiter(rate.Every(heldAgain), heldBurst),
		crowded: crowded, now: time.Now,
	}
}

// left tells for how long a write can wait; to zero or less, it is time. due keeps
// for Leisure which turn the write has: it begins as the zero time, and whoever
// asks has to write, or to ask again, when what is left has passed.
func (l *Leisure) left(due *time.Time) time.Duration {
	if l == nil {
		return 0
	}
	now := l.now()
	if due.IsZero() {
		switch {
		case !l.holds(now):
			*due = now.Add(l.limiter.ReserveN(now, 1).DelayFrom(now))
		case l.trickle.AllowN(now, 1):
			*due = now
		default:
			return heldAgain
		}
	}
	return due.Sub(now)
}

// holds tells whether there is only a trickle of turns for now.
func (l *Leisure) holds(now time.Time) bool {
	crowded := l.crowded()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !crowded:
		l.held = time.Time{}
	case l.held.IsZero():
		l.held = now
	}
	return crowded && now.Sub(l.held) < heldMost
}

// wait returns when it is time to write. The error says that ctx has ended.
func (l *Leisure) wait(ctx context.Context) error {
	var due time.Time
	for {
		d := l.left(&due)
		if d <= 0 {
			return nil
		}
		timer := time.NewTimer(d)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waiting for a turn to write: %w", ctx.Err())
		case <-timer.C:
		}
	}
}
