package controller

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

const (
	// leisureRate is how many objects a second are written that nobody waits for,
	// and leisureBurst how many at once after a rest.
	leisureRate  = 5
	leisureBurst = 10
)

// Leisure spreads what a process writes although nobody waits for it: when one
// starts, or is gone, every template and constraint is to be written, and each
// write is an event for all processes. Who asks a webhook at that moment would
// feel hundreds at once. A nil Leisure puts nothing off. It is safe for
// concurrent use.
type Leisure struct{ limiter *rate.Limiter }

// NewLeisure returns the Leisure that the parts of a process share.
func NewLeisure() *Leisure { return &Leisure{rate.NewLimiter(leisureRate, leisureBurst)} }

// turn tells when to write: who asks has to.
func (l *Leisure) turn() time.Duration {
	if l == nil {
		return 0
	}
	return l.limiter.Reserve().Delay()
}

// wait returns when it is time to write. The error says that ctx has ended.
func (l *Leisure) wait(ctx context.Context) error {
	if l == nil {
		return nil
	}
	if err := l.limiter.Wait(ctx); err != nil {
		return fmt.Errorf("waiting for a turn to write: %w", err)
	}
	return nil
}
