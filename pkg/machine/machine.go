// Package machine tells whether others want the processors that this process
// runs on.
package machine

import (
	"math"
	"sync"
	"time"
)

const (
	// every is how often the use of processors is looked at, at most.
	every = 100 * time.Millisecond
	// memory is how long what was seen counts: after that, by a third.
	memory = 500 * time.Millisecond
	// edge is how much more of all processors others must use than this process
	// does to come to be in need of them. What this process has others do for it,
	// as the API server that lists for it, costs about as much as what it does.
	edge = 0.25
	// leave is how much others must use more than half of what this process does
	// to stay so: once it spares them it has others do little, and what it took
	// from them shows.
	leave = 0.2
	// room is how many processors must have nothing to do for nobody to be in
	// need, however much others use.
	room = 4.0
)

// use is the time that processors have had, in seconds.
type use struct{ total, idle, own float64 }

// Meter watches the processors of the machine. The zero value is not ready for
// use.
type Meter struct {
	read       func() (use, error)
	processors float64

	mu      sync.Mutex
	at      time.Time
	before  use
	seen    bool
	rates   use // in processors
	crowded bool
}

// NewMeter returns a Meter that has seen nothing yet, and takes others to be in
// need until it has.
func NewMeter() *Meter { return newMeter(readUse, processors()) }

func newMeter(read func() (use, error), processors float64) *Meter {
	m := &Meter{read: read, processors: processors, at: time.Now(), crowded: true}
	m.before, _ = read()
	return m
}

// Crowded tells whether others have been in need of processors in the last
// second or so: they use clearly more than this process does, and few are free.
// Once they are, they are until they use clearly less. It is false where that
// cannot be known.
func (m *Meter) Crowded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if passed := time.Since(m.at); passed >= every {
		m.look(passed)
	}
	return m.crowded
}

func (m *Meter) look(passed time.Duration) {
	now, err := m.read()
	if err != nil || m.processors == 0 {
		m.crowded, m.at = false, m.at.Add(passed)
		return
	}
	m.observe(now, passed)
	m.at, m.before = m.at.Add(passed), now
}

// observe takes over the use since the last look.
func (m *Meter) observe(now use, passed time.Duration) {
	seconds := passed.Seconds()
	latest := use{
		total: (now.total - m.before.total) / seconds, idle: (now.idle - m.before.idle) / seconds, own: (now.own - m.before.own) / seconds,
	}
	weight := 1.0
	if m.seen {
		weight = 1 - math.Exp(-seconds/memory.Seconds())
	}
	m.seen = true
	m.rates.total += weight * (latest.total - m.rates.total)
	m.rates.idle += weight * (latest.idle - m.rates.idle)
	m.rates.own += weight * (latest.own - m.rates.own)
	others := m.rates.total - m.rates.idle - m.rates.own
	more := others-m.rates.own > edge*m.processors
	if m.crowded {
		more = others-m.rates.own/2 > leave*m.processors
	}
	m.crowded = m.rates.idle < room && more
}
