package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// named is a side of the comparison.
type named struct {
	name string
	side
}

// cost is what one review takes, from the bytes of the AdmissionReview. Times
// are processor time of the thread that judges; what the garbage collector takes
// beside it is not in them.
type cost struct {
	mean, p50, p99 time.Duration
	allocs, bytes  float64
}

// compare measures the sides in turns and returns their means over the subjects.
func compare(ctx context.Context, subjects []subject, sides []named, rounds int, budget time.Duration) []cost {
	fmt.Printf("\n%-18s %-12s %10s %10s %10s %12s %12s\n", "review", "side", "mean", "p50", "p99", "allocations", "bytes")
	means := make([]cost, len(sides))
	for _, s := range subjects {
		body := s.admission()
		costs := make([][]cost, len(sides))
		for range rounds {
			for i, by := range sides {
				costs[i] = append(costs[i], measure(ctx, body, by, budget))
			}
		}
		for i, by := range sides {
			c := median(costs[i])
			show(s.name, by.name, c)
			means[i] = means[i].plus(c)
		}
	}
	for i, by := range sides {
		means[i] = means[i].over(len(subjects))
		show("mean", by.name, means[i])
	}
	return means
}

func show(name, side string, c cost) {
	fmt.Printf("%-18s %-12s %10s %10s %10s %12.0f %12.0f\n", name, side,
		c.mean.Round(time.Microsecond), c.p50.Round(time.Microsecond), c.p99.Round(time.Microsecond), c.allocs, c.bytes)
}

func (c cost) plus(d cost) cost {
	return cost{c.mean + d.mean, c.p50 + d.p50, c.p99 + d.p99, c.allocs + d.allocs, c.bytes + d.bytes}
}

func (c cost) over(n int) cost {
	d := time.Duration(n)
	return cost{c.mean / d, c.p50 / d, c.p99 / d, c.allocs / float64(n), c.bytes / float64(n)}
}

// measure decodes and judges until the time is up.
func measure(ctx context.Context, body []byte, by side, budget time.Duration) cost {
	var before, after runtime.MemStats
	var times []time.Duration
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for start := time.Now(); time.Since(start) < budget || len(times) < 3; {
		begin := threadTime()
		if _, err := by.judge(ctx, reviewOf(by.decode(body))); err != nil {
			panic(err) // agree has judged it before
		}
		times = append(times, threadTime()-begin)
	}
	runtime.ReadMemStats(&after)
	n := float64(len(times))
	return cost{
		mean: mean(times), p50: percentile(times, 50), p99: percentile(times, 99),
		allocs: float64(after.Mallocs-before.Mallocs) / n, bytes: float64(after.TotalAlloc-before.TotalAlloc) / n,
	}
}

// threadTime is the processor time that this thread has taken, which does not
// depend on what else the machine is doing.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // there is no such clock
	}
	return time.Duration(t.Nano())
}

func mean(times []time.Duration) time.Duration {
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return sum / time.Duration(len(times))
}

func percentile(times []time.Duration, p int) time.Duration {
	slices.Sort(times)
	return times[len(times)*p/100]
}

func median(cs []cost) cost {
	slices.SortFunc(cs, func(a, b cost) int { return int(a.mean - b.mean) })
	return cs[len(cs)/2]
}
