package engine

import (
	"context"
	"time"
)

// budget is the context of one constraint's evaluation: it ends with the
// review's, or earlier, when the constraint has used up half of the time that
// was left when its turn came. One slow policy so leaves time for the others.
// It is used by one goroutine at a time and costs no timer: evaluators look at
// Err as they go.
type budget struct {
	context.Context
	until time.Time // zero if the review has no deadline
}

// begin gives the next constraint its share.
func (b *budget) begin(now time.Time) {
	if deadline, limited := b.Context.Deadline(); limited {
		b.until = now.Add(deadline.Sub(now) / 2)
	}
}

// Deadline implements context.Context.
func (b *budget) Deadline() (time.Time, bool) {
	if !b.until.IsZero() {
		return b.until, true
	}
	return b.Context.Deadline()
}

// Err implements context.Context.
func (b *budget) Err() error {
	if err := b.Context.Err(); err != nil {
		return err
	}
	if !b.until.IsZero() && !time.Now().Before(b.until) {
		return context.DeadlineExceeded
	}
	return nil
}
