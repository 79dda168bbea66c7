package main

import (
	"runtime"
	"testing"
)

// TestModest has others want the processors, and no more.
func TestModest(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	const most = 4
	crowded := true
	m := modest{func() bool { return crowded }}
	for _, want := range []int{1, 1, most, most, 1} {
		crowded = want == 1
		m.adjust(most)
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("uses %d processors, want %d, while others want them: %t", got, want, crowded)
		}
	}
}
