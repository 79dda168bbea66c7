// Package cost says what an evaluation may take and counts what it takes, the
// same on every machine: steps of work and bytes built up. It also holds the
// list of the builtins that policies may call. Each has a check that looks at
// the operands before the call and says what the call will cost at most, so that
// no result is made first and counted afterwards.
package cost

import (
	"context"
	"errors"
	"fmt"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// ErrLimit is an evaluation that took more steps, memory or depth than it is
// granted. Every limit error wraps it.
var ErrLimit = errors.New("evaluation limit exceeded")

// Limits are what one evaluation is granted.
type Limits struct {
	// Steps is how many elements may be looked at, functions called and the
	// like. A step takes up to a quarter of a microsecond.
	Steps int
	// Bytes is how much memory, roughly, may be built up: EntryWeight for each
	// value, and the length of its text.
	Bytes int
}

// Base and PerByte are the limits of one constraint's evaluation for one object:
// the base, and as much more for each byte of the object. The object before the
// request and other objects that a policy reads add nothing: what is done with
// them is part of the base. What the largest object is granted must not take as
// long as a request may: time that runs out lets the object in. A policy in use
// takes a few thousand steps; a scan of 100,000 inventory objects takes some
// hundred thousand.
var (
	Base    = Limits{Steps: 4_000_000, Bytes: 64 << 20}
	PerByte = Limits{Steps: 1, Bytes: 16}
)

// Announced and AnnouncedPerByte are the limits of the next release, which are
// smaller than those in force where that is to grant less. They end nothing: what
// comes near them is told, for a release, before it is refused.
var Announced = Base

// AnnouncedPerByte is the next release's PerByte.
var AnnouncedPerByte = PerByte

// grown are the limits for an object of this size, in bytes.
func (l Limits) grown(perByte Limits, size int) Limits {
	return Limits{Steps: l.Steps + perByte.Steps*size, Bytes: l.Bytes + perByte.Bytes*size}
}

const (
	// EntrySize is what an element of a collection counts for, in bytes.
	EntrySize = value.EntryWeight
	// checkEvery is after how many steps the context is looked at.
	checkEvery = 256
	// checkBytes is after how many bytes built up it is looked at: a few steps may
	// write a large object as text each.
	checkBytes = 1 << 20
)

// Meter counts what one evaluation takes. It is for one goroutine.
type Meter struct {
	Limits Limits
	// Steps and Bytes are what has been used.
	Steps, Bytes int
	// Object is what is judged, by whose size the limits grow once they are
	// reached; nil if they do not.
	Object map[string]any
	// half is half of the least limits: what stays below need not be looked at
	// closely.
	half Limits
	// most is how many bytes there would have been had all been built up that was
	// asked for, if that is more than half.
	most int
	// size is that of Object once the limits have grown by it.
	size int
	// Err is why the evaluation has to end, nil if it may go on.
	Err error
	ctx context.Context
	// next and nextBytes are at how many steps and bytes to look at the context
	// again.
	next, nextBytes int
	// sizes are weights of OPA's values, by their address.
	sizes map[any]int
	// patterns are those that the evaluation has used.
	patterns map[string]*Pattern
}

// Start makes the meter count from nothing.
func (m *Meter) Start(ctx context.Context, l Limits) {
	m.Limits, m.Steps, m.Bytes, m.Err, m.ctx = l, 0, 0, nil, ctx
	m.half, m.most, m.size = Limits{Steps: min(l.Steps, Announced.Steps) / 2, Bytes: min(l.Bytes, Announced.Bytes) / 2}, 0, 0
	m.next, m.nextBytes = checkEvery, min(checkBytes, l.Bytes+1)
}

// Stop forgets the evaluation. What it used stays.
func (m *Meter) Stop() {
	m.Err, m.ctx, m.sizes, m.Object = nil, nil, nil, nil
	if len(m.patterns) > keptPatterns {
		m.patterns = nil
	}
	clear(m.patterns)
}

// keptPatterns is for how many patterns room is kept.
const keptPatterns = 32

// Context is the evaluation's.
func (m *Meter) Context() context.Context { return m.ctx }

// Step counts one step of work and tells whether to go on.
func (m *Meter) Step() bool {
	m.Steps++
	return m.Steps < m.next || m.check()
}

// Work counts n steps at once.
func (m *Meter) Work(n int) bool {
	m.Steps += n
	return m.Steps < m.next || m.check()
}

// Grow counts memory that is built up and tells whether to go on.
func (m *Meter) Grow(bytes int) bool {
	m.Bytes += bytes
	return m.Bytes < m.nextBytes || m.grown()
}

// grown looks at the context, and whether the limit is reached.
func (m *Meter) grown() bool {
	if !m.check() {
		return false
	}
	if m.Bytes > m.Limits.Bytes && !(m.extend() && m.Bytes <= m.Limits.Bytes) {
		return m.full()
	}
	m.nextBytes = min(m.Bytes+checkBytes, m.Limits.Bytes+1)
	return true
}

// Fits tells whether so much memory may be built up, without counting it.
func (m *Meter) Fits(bytes int) bool { return m.Bytes+bytes <= m.half.Bytes || m.fits(bytes) }

func (m *Meter) fits(bytes int) bool {
	m.most = max(m.most, m.Bytes+bytes)
	return m.Bytes+bytes <= m.Limits.Bytes || m.extend() && m.Bytes+bytes <= m.Limits.Bytes || m.full()
}

// Taken is what the evaluation has taken, with what it would have built up.
func (m *Meter) Taken() Limits { return Limits{Steps: m.Steps, Bytes: max(m.Bytes, m.most)} }

// NearWith tells whether what was taken, and this, may come to over half of the
// limits.
func (m *Meter) NearWith(more Limits) bool {
	taken := m.Taken()
	return taken.Steps+more.Steps > m.half.Steps || taken.Bytes+more.Bytes > m.half.Bytes
}

// MaxUsed is what Used is at most.
const MaxUsed = 1000

// Used is how much of its limits the evaluation has taken, in percent: of the
// steps or the bytes, whichever is more, and of the limits in force or announced.
// It is 0 up to half of them, and over 100 where the evaluation has come to its
// end by them, or would by those announced.
func (m *Meter) Used() int {
	if !m.NearWith(Limits{}) {
		return 0
	}
	m.extend()
	taken, used := m.Taken(), 0
	for _, l := range []Limits{m.Limits, Announced.grown(AnnouncedPerByte, m.size)} {
		used = max(used, percent(taken.Steps, l.Steps), percent(taken.Bytes, l.Bytes))
	}
	if used <= 50 {
		return 0
	}
	return min(used, MaxUsed)
}

// percent is rounded up, so that 50 is not over half.
func percent(n, of int) int { return (100*n + of - 1) / of }

// extend adds what the object that is judged is granted for its size. Its size
// is of no matter to evaluations that do with less, so that they need not know it.
func (m *Meter) extend() bool {
	if m.Object == nil {
		return false
	}
	m.size, m.Object = value.Size(m.Object), nil
	m.Limits = m.Limits.grown(PerByte, m.size)
	return true
}

func (m *Meter) check() bool {
	if m.Err != nil {
		return false
	}
	m.next = m.Steps + checkEvery
	if err := m.ctx.Err(); err != nil {
		m.Err, m.next, m.nextBytes = CutOff(err), 0, 0
		return false
	}
	if m.Steps > m.Limits.Steps && !(m.extend() && m.Steps <= m.Limits.Steps) {
		return m.Exceed("the policy takes more than %d steps on this object", m.Limits.Steps)
	}
	return true
}

func (m *Meter) full() bool {
	return m.Exceed("the policy builds up more than %d MiB on this object", m.Limits.Bytes>>20)
}

// Exceed ends the evaluation for a limit. It returns false.
func (m *Meter) Exceed(format string, args ...any) bool {
	if m.Err == nil {
		m.Err = fmt.Errorf("%w: "+format, append([]any{ErrLimit}, args...)...)
	}
	m.next, m.nextBytes = 0, 0
	return false
}

// CutOff is the end of a context as an error.
func CutOff(err error) error { return fmt.Errorf("the evaluation was cancelled: %w", err) }
