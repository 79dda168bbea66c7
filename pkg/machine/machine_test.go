package machine

import (
	"errors"
	"testing"
	"time"
)

// TestCrowded goes through loads of a machine, second by second.
func TestCrowded(t *testing.T) {
	cases := map[string]struct {
		reason     string
		processors float64
		// used are the processors that others and this process use.
		others, own float64
		want        bool
	}{
		"Idle":         {reason: "Nobody does anything", processors: 2},
		"Alone":        {reason: "This process and what serves it have it to themselves", processors: 2, others: 0.6, own: 0.8},
		"Others":       {reason: "Others use half of a small machine", processors: 2, others: 0.95, own: 0.05, want: true},
		"Started":      {reason: "This process starts while others use a third of a small machine", processors: 2, others: 0.75, own: 0.6, want: true},
		"StartedAlone": {reason: "This process starts, and has the API server do something", processors: 2, others: 0.5, own: 0.6},
		"Full":         {reason: "Others use what this process leaves", processors: 2, others: 1.4, own: 0.6, want: true},
		"MuchRoom":     {reason: "Others use a lot, but there is a lot left", processors: 64, others: 40, own: 1},
		"NoRoom":       {reason: "Others use nearly all of a large machine", processors: 64, others: 61, own: 1, want: true},
		"Unobservable": {reason: "How many processors there are is not known", others: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var now use
			m := newMeter(func() (use, error) { return now, nil }, tc.processors)
			for range 5 {
				now.total += tc.processors
				now.own += tc.own
				now.idle += tc.processors - tc.others - tc.own
				m.at = m.at.Add(-time.Second)
				if got := m.Crowded(); got != tc.want {
					t.Fatalf("%s: Crowded() = %t, want %t", tc.reason, got, tc.want)
				}
			}
		})
	}
}

// TestCrowdedStays takes up a load slowly, and less of it.
func TestCrowdedStays(t *testing.T) {
	var now use
	m := newMeter(func() (use, error) { return now, nil }, 2)
	after := func(others, own float64) bool {
		for range 10 {
			now.total += 2
			now.own += own
			now.idle += 2 - others - own
			m.at = m.at.Add(-time.Second)
			m.Crowded()
		}
		return m.Crowded()
	}
	for i, tc := range []struct {
		reason      string
		others, own float64
		want        bool
	}{
		{reason: "nobody does anything"},
		{reason: "what reading has the API server do is no need", others: 1.1, own: 0.8},
		{reason: "others come", others: 1.4, own: 0.6, want: true},
		{reason: "they do not go by being spared", others: 0.75, own: 0.05, want: true},
		{reason: "they have gone", others: 0.35, own: 0.05},
		{reason: "a little more is no need", others: 0.5, own: 0.05},
	} {
		if got := after(tc.others, tc.own); got != tc.want {
			t.Errorf("step %d: Crowded() = %t, want %t: %s", i, got, tc.want, tc.reason)
		}
	}
}

// TestCrowdedPasses sees a load begin and end.
func TestCrowdedPasses(t *testing.T) {
	now, err := use{}, error(nil)
	m := newMeter(func() (use, error) { return now, err }, 2)
	step := func(others float64) bool {
		now.total += 0.4
		now.idle += 0.4 - others*0.2
		m.at = m.at.Add(-200 * time.Millisecond)
		return m.Crowded()
	}
	for range 10 {
		step(0)
	}
	if step(0.4) {
		t.Error("a fifth of a second of others counts at once")
	}
	for range 10 {
		step(1)
	}
	if !step(1) {
		t.Error("two seconds of others do not count")
	}
	for range 10 {
		step(0)
	}
	if step(0) {
		t.Error("what ended two seconds ago still counts")
	}
	step(1)
	step(1)
	err = errors.New("gone")
	if step(1) {
		t.Error("crowded though nothing can be known")
	}
}
