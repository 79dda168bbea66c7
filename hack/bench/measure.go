package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// cost is what one review takes.
type cost struct {
	time          time.Duration
	allocs, bytes float64
}

// compare measures both sides in turns and returns the ratios of their means
// over the subjects, theirs over ours.
func compare(ctx context.Context, subjects []subject, ours, stock side, rounds int, budget time.Duration) (speedup, allocs float64) {
	fmt.Printf("\n%-18s %-8s %12s %12s %12s\n", "review", "side", "time", "allocations", "bytes")
	var mine, theirs cost
	for _, s := range subjects {
		var a, b []cost
		for range rounds {
			a = append(a, measure(ctx, s, ours, budget))
			b = append(b, measure(ctx, s, stock, budget))
		}
		left, right := median(a), median(b)
		show(s.name, "fusegate", left)
		show("", "stock", right)
		mine, theirs = mine.plus(left), theirs.plus(right)
	}
	n := float64(len(subjects))
	show("mean", "fusegate", mine.over(n))
	show("", "stock", theirs.over(n))
	return float64(theirs.time) / float64(mine.time), theirs.allocs / mine.allocs
}

func show(name, side string, c cost) {
	fmt.Printf("%-18s %-8s %12s %12.0f %12.0f\n", name, side, c.time.Round(time.Microsecond), c.allocs, c.bytes)
}

func (c cost) plus(d cost) cost { return cost{c.time + d.time, c.allocs + d.allocs, c.bytes + d.bytes} }

func (c cost) over(n float64) cost {
	return cost{time.Duration(float64(c.time) / n), c.allocs / n, c.bytes / n}
}

// measure judges the subject until the time is up. Decoding is not counted,
// since it is the same for both sides.
func measure(ctx context.Context, s subject, by side, budget time.Duration) cost {
	var spent time.Duration
	var total cost
	var before, after runtime.MemStats
	runtime.GC()
	n := 0
	for ; spent < budget || n < 3; n++ {
		r := s.review()
		runtime.ReadMemStats(&before)
		start := time.Now()
		if _, err := by.judge(ctx, r); err != nil {
			panic(err) // agree has judged it before
		}
		spent += time.Since(start)
		runtime.ReadMemStats(&after)
		total.allocs += float64(after.Mallocs - before.Mallocs)
		total.bytes += float64(after.TotalAlloc - before.TotalAlloc)
	}
	total.time = spent
	return total.over(float64(n))
}

func median(cs []cost) cost {
	slices.SortFunc(cs, func(a, b cost) int { return int(a.time - b.time) })
	return cs[len(cs)/2]
}
