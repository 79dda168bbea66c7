package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fusegate/fusegate/hack/rig"
)

// slice is how finely a timeline tells what happened.
const slice = 250 * time.Millisecond

// others stands for all that is not part of the bench.
const others = "others"

// timeline is the time that each process had, slice by slice.
type timeline []map[string]time.Duration

// record watches processes until ctx ends.
func (s *stage) record(ctx context.Context, pids map[string]int) timeline {
	clocks := map[string]*clock{}
	for name, pid := range pids {
		clocks[name] = &clock{pid: pid}
		clocks[name].reset()
	}
	last, _ := rig.Busy()
	ticker := time.NewTicker(slice)
	defer ticker.Stop()
	var out timeline
	for {
		select {
		case <-ctx.Done():
			return out
		case <-ticker.C:
		}
		now, _ := rig.Busy()
		had := map[string]time.Duration{others: now - last}
		last = now
		for name, c := range clocks {
			had[name] = c.since()
			had[others] -= had[name]
			c.reset()
		}
		out = append(out, had)
	}
}

// print tells the slowest answer of each slice, and who had how much time.
func (l timeline) print(answers []answer) {
	slowest := make([]time.Duration, len(l))
	for _, a := range answers {
		if n := int(a.due / slice); n < len(slowest) {
			slowest[n] = max(slowest[n], a.took)
		}
	}
	for n, had := range l {
		fmt.Printf("  %6.2f s  slowest %6.1f ms ", (time.Duration(n) * slice).Seconds(), slowest[n].Seconds()*1000)
		for _, name := range slices.Sorted(maps.Keys(had)) {
			fmt.Printf("  %s %3d ms", name, had[name].Milliseconds())
		}
		fmt.Println()
	}
}
