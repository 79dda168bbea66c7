package audit

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// newPaced is a kind of which nothing is read, by a clock that stands still.
func newPaced(t *testing.T, crowded bool) (*kind, *clocktesting.FakeClock) {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	a := &Auditor{o: Options{Clock: clock, Crowded: func() bool { return crowded }}}
	return newKind(a, resource{}), clock
}

// TestLull waits between pages.
func TestLull(t *testing.T) {
	cases := map[string]struct {
		reason    string
		leisurely bool
		took      time.Duration
		passed    time.Duration // since the beginning
		left      int64
		want      time.Duration
	}{
		"Share":   {reason: "a page is a fiftieth of the time", took: 10 * time.Millisecond, left: 10, want: 490 * time.Millisecond},
		"Leisure": {reason: "and if nobody waits, too", leisurely: true, took: 10 * time.Millisecond, left: 10, want: 490 * time.Millisecond},
		"Bounded": {reason: "what is left must fit into four minutes", took: 10 * time.Millisecond, passed: 3 * time.Minute, left: 1000, want: 60 * time.Millisecond},
		"Late":    {reason: "no rest after that", took: 10 * time.Millisecond, passed: 4 * time.Minute, left: 10},
		"Unknown": {reason: "how much is left may not be told", took: 10 * time.Millisecond, passed: time.Hour, want: 490 * time.Millisecond},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			k, clock := newPaced(t, true)
			r := k.begin("", nil)
			r.leisurely = tc.leisurely
			clock.Step(tc.passed)
			done := make(chan struct{})
			go func() { k.lull(t.Context(), r, tc.took, tc.left); close(done) }()
			if tc.want > 0 {
				awaitWaiter(t, clock)
				clock.Step(tc.want - time.Millisecond)
				select {
				case <-done:
					t.Errorf("less than %v: %s", tc.want, tc.reason)
				default:
				}
				clock.Step(time.Millisecond)
			}
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Errorf("more than %v: %s", tc.want, tc.reason)
			}
		})
	}
}

func awaitWaiter(t *testing.T, clock *clocktesting.FakeClock) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !clock.HasWaiters(); {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
}

// TestHurry has a list at leisure end early once something else is wanted.
func TestHurry(t *testing.T) {
	k, clock := newPaced(t, false)
	r := k.begin("", nil)
	if k.sparing(r) {
		t.Error("a list that somebody waits for is read sparingly")
	}
	r.leisurely = true
	if !k.sparing(r) {
		t.Error("a list that nobody waits for is not read sparingly")
	}
	if k.hurry(r); !k.sparing(r) {
		t.Error("hurried though nothing else is wanted")
	}
	done := make(chan struct{})
	go func() { k.lull(t.Context(), r, time.Hour, 0); close(done) }()
	awaitWaiter(t, clock)
	k.wanted = k.swept + 1
	k.hurry(r)
	k.hurry(r)
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("still resting though something else is wanted")
	}
	if k.sparing(r) {
		t.Error("still read sparingly though something else is wanted")
	}
	if crowded, _ := newPaced(t, true); !crowded.sparing(crowded.begin("", nil)) {
		t.Error("not read sparingly though others want the processors")
	}
}
