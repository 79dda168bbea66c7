package main

import (
	"runtime"
	"testing"
	"time"
)

func TestSilence(t *testing.T) {
	start := time.Unix(1e9, 0)
	l := silence{seen: 3, since: start}
	for i, tc := range []struct {
		n        uint64
		at, want time.Duration
	}{{3, 4 * time.Second, 4 * time.Second}, {5, 5 * time.Second, 0}, {5, 9 * time.Second, 4 * time.Second}, {6, 10 * time.Second, 0}} {
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
