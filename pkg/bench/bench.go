// Package bench measures what policies cost: how long the engine takes to judge
// objects by them, and how much memory it allocates, all together and template
// by template. It is an offline door of the pipeline, fed like the others from
// files, and measures engine.Review, which admission and audit call as well.
package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// All is the name of the measurement of all templates together.
const All = "all"

// Options say how to measure. The zero value is good for a look.
type Options struct {
	// Concurrency is how many reviews are under way at once; 1 if zero.
	Concurrency int
	// Duration is how long each measurement takes at least; a second if zero.
	// Every object is reviewed once however long that takes.
	Duration time.Duration
	// Progress is called before each measurement with its name.
	Progress func(name string)
}

// Result is one measurement. Times are of single reviews, in nanoseconds.
type Result struct {
	Name        string `json:"name"`
	Constraints int    `json:"constraints"`
	Objects     int    `json:"objects"`
	Reviews     int    `json:"reviews"`
	// Seconds is the time of all reviews, and Throughput reviews by second.
	Seconds    float64 `json:"seconds"`
	Throughput float64 `json:"reviewsPerSecond"`
	Mean       float64 `json:"meanNanoseconds"`
	P50        float64 `json:"p50Nanoseconds"`
	P95        float64 `json:"p95Nanoseconds"`
	P99        float64 `json:"p99Nanoseconds"`
	// Allocs and Bytes are those of one review.
	Allocs float64 `json:"allocsPerReview"`
	Bytes  float64 `json:"bytesPerReview"`
	// Violations and Faults are what one review of every object comes to.
	Violations int `json:"violations"`
	Faults     int `json:"faults"`
	// Fault is the first of them.
	Fault string `json:"fault,omitempty"`
}

// Subject is what is measured.
type Subject struct {
	// Reviews are what is judged, at least one.
	Reviews []*policy.Review
	// Parts are all templates together, then one by one.
	Parts []Part
}

// Part is an engine and how it is called.
type Part struct {
	Name        string
	Constraints int
	Engine      *engine.Engine
}

// Run measures all parts, one after the other. Nothing else should be running.
func Run(ctx context.Context, s *Subject, o Options) ([]Result, error) {
	var out []Result
	for _, p := range s.Parts {
		if o.Progress != nil {
			o.Progress(p.Name)
		}
		r, err := p.measure(ctx, s.Reviews, o)
		if err != nil {
			return out, fmt.Errorf("measuring %s: %w", p.Name, err)
		}
		out = append(out, r)
	}
	return out, nil
}

var errNothing = errors.New("there is nothing to review")

func (p Part) measure(ctx context.Context, reviews []*policy.Review, o Options) (Result, error) {
	if len(reviews) == 0 {
		return Result{}, errNothing
	}
	r := Result{Name: p.Name, Constraints: p.Constraints, Objects: len(reviews)}
	p.check(ctx, reviews, &r)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	times := p.load(ctx, reviews, o, start)
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	if err := context.Cause(ctx); err != nil {
		return Result{}, err
	}
	r.fill(times, elapsed)
	r.Allocs = float64(after.Mallocs-before.Mallocs) / float64(r.Reviews)
	r.Bytes = float64(after.TotalAlloc-before.TotalAlloc) / float64(r.Reviews)
	return r, nil
}

// check reviews every object once, before anything is measured, and counts what
// is found.
func (p Part) check(ctx context.Context, reviews []*policy.Review, r *Result) {
	for _, review := range reviews {
		found := p.Engine.Review(ctx, review)
		r.Violations += len(found.Violations)
		r.Faults += len(found.Faults)
		if r.Fault == "" && len(found.Faults) > 0 {
			r.Fault = fmt.Sprintf("%s %s/%s: %v", review.Kind.Kind, review.Namespace, review.Name, found.Faults[0])
		}
	}
}

// room is for how many times there is space before it has to grow, lest the
// growing be measured.
const room = 1 << 16

// load reviews the objects in turn until time is up, and returns how long each
// review took.
func (p Part) load(ctx context.Context, reviews []*policy.Review, o Options, start time.Time) []time.Duration {
	workers, least := max(o.Concurrency, 1), o.Duration
	if least <= 0 {
		least = time.Second
	}
	all := make([][]time.Duration, workers)
	for w := range all {
		all[w] = make([]time.Duration, 0, room)
	}
	var next atomic.Int64
	var running sync.WaitGroup
	for w := range all {
		running.Go(func() {
			for begin := time.Now(); ctx.Err() == nil; {
				i := int(next.Add(1)) - 1
				if i >= len(reviews) && begin.Sub(start) >= least {
					return
				}
				p.Engine.Review(ctx, reviews[i%len(reviews)])
				end := time.Now()
				all[w] = append(all[w], end.Sub(begin))
				begin = end
			}
		})
	}
	running.Wait()
	return slices.Concat(all...)
}

func (r *Result) fill(times []time.Duration, elapsed time.Duration) {
	slices.Sort(times)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	r.Reviews = len(times)
	r.Seconds = elapsed.Seconds()
	r.Throughput = float64(len(times)) / elapsed.Seconds()
	r.Mean = float64(sum) / float64(len(times))
	r.P50, r.P95, r.P99 = percentile(times, 50), percentile(times, 95), percentile(times, 99)
}

// percentile is the smallest of the sorted times that p percent do not exceed
// (the nearest-rank method). There is at least one.
func percentile(sorted []time.Duration, p int) float64 {
	rank := (len(sorted)*p + 99) / 100
	return float64(sorted[max(rank, 1)-1])
}
