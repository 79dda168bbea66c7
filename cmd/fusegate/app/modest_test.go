package app

import (
	"runtime"
	"testing"
)

// TestModest has others want the processors, and no more.
func TestModest(t *testing.T) {
	defer runtime.SetDefaultGOMAXPROCS()
	runtime.SetDefaultGOMAXPROCS()
	most := runtime.GOMAXPROCS(0)
	crowded, one := false, false
	m := modest{func() bool { return crowded }}
	for i, wanted := range []bool{false, true, true, false, false, true} {
		crowded = wanted
		one = m.adjust(one)
		want := most
		if wanted {
			want = 1
		}
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("step %d: uses %d processors, want %d, while others want them: %t", i, got, want, crowded)
		}
	}
}
