package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// budget is the context of one constraint's evaluation: it ends with the
// review's, or earlier, when the constraint has used up half of the time that
// was left when its turn came. One slow policy so leaves time for the others.
// It also ends when a denial is known and the review is to be answered: half of
// the time is for finding one, and none is to be found too late.
// It is used by one goroutine at a time and costs no timer: evaluators look at
// Err as they go.
type budget struct {
	context.Context
	until time.Time // zero if the review has no deadline
	// answerBy is the review's, zero if it has none.
	answerBy time.Time
	// denied is set when a denial is known; finding is set when the constraint
	// that is evaluated denies, and has found a violation.
	denied, denies, finding bool
	// review is what is judged, and match that of the constraint whose turn it is.
	review *policy.Review
	match  *match.Matcher
}

var (
	_ rego.Finder  = (*budget)(nil)
	_ rego.Matched = (*budget)(nil)
)

// MatchedBefore implements rego.Matched.
func (b *budget) MatchedBefore() bool {
	before := *b.review
	before.Object, before.OldObject = b.review.OldObject, nil
	matched, err := b.match.Match(&before)
	return matched && err == nil
}

// begin gives the next constraint its share, which denies or does not.
func (b *budget) begin(now time.Time, denies bool) {
	b.denies, b.finding = denies, false
	if deadline, limited := b.Context.Deadline(); limited {
		b.until = now.Add(deadline.Sub(now) / 2)
	}
}

// end takes back what was found while the constraint was evaluated: whether it
// denies is known now, and an error may have come after it.
func (b *budget) end() { b.finding = false }

// Found implements rego.Finder.
func (b *budget) Found(something bool) { b.finding = something && b.denies }

// answers tells whether the review is one that ends when a denial is known.
func (b *budget) answers() bool { return !b.answerBy.IsZero() }

// settled tells whether the review is over: it is denied, and to be answered.
func (b *budget) settled(now time.Time) bool {
	return (b.denied || b.finding) && b.answers() && !now.Before(b.answerBy)
}

// errSettled is why an evaluation ends when the review is over.
var errSettled = fmt.Errorf("the request is denied already: %w", context.DeadlineExceeded)

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
	if b.until.IsZero() && !b.answers() {
		return nil
	}
	now := time.Now()
	if b.settled(now) {
		return errSettled
	}
	if !b.until.IsZero() && !now.Before(b.until) {
		return context.DeadlineExceeded
	}
	return nil
}
