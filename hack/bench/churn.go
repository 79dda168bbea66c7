package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"
)

// churnRounds is how often reviews are measured with and without churn, in turns.
const churnRounds = 7

// churn measures what the webhook's slowest answers take while templates and
// constraints are added, changed and removed in a loop, and while they are not.
func churn(ctx context.Context, server *httptest.Server, o *ours, l library, body []byte) error {
	var quiet, busy []time.Duration
	changes := 0
	for range churnRounds {
		times, _, err := burst(ctx, server, body, 16)
		if err != nil {
			return err
		}
		quiet = append(quiet, percentile(times, 99))
		stop := make(chan struct{})
		made := make(chan result)
		go func() { made <- o.keepChanging(ctx, l, stop) }()
		times, _, err = burst(ctx, server, body, 16)
		close(stop)
		r := <-made
		if err != nil {
			return err
		}
		if r.err != nil {
			return r.err
		}
		changes += r.changes
		busy = append(busy, percentile(times, 99))
	}
	before, after := percentile(quiet, 50), percentile(busy, 50)
	fmt.Printf("p99 of 16 clients, median of %d rounds in turns: %s quiet, %s during %d changes of templates and constraints\n",
		churnRounds, before.Round(time.Microsecond), after.Round(time.Microsecond), changes)
	fmt.Printf("churn raises p99 by: %.0f %%\n", 100*(ratio(after, before)-1))
	return nil
}

// result is how many changes were made.
type result struct {
	changes int
	err     error
}

// keepChanging changes one policy after the other until stop is closed. Every
// step leaves all policies as they were.
func (o *ours) keepChanging(ctx context.Context, l library, stop <-chan struct{}) (r result) {
	for i := 0; ; i++ {
		t, c := l.templates[i%len(l.templates)], l.constraints[i%len(l.constraints)]
		steps := []func() error{
			func() error { return o.AddTemplate(ctx, changed(t)) },
			func() error { return o.RemoveConstraint(ctx, c.GetKind(), c.GetName()) },
			func() error { return o.AddConstraint(ctx, c) },
			func() error { return o.RemoveTemplate(ctx, t.Name) },
			func() error { return o.AddTemplate(ctx, t) },
			func() error { return o.AddConstraint(ctx, c) },
		}
		for _, step := range steps {
			if r.err = step(); r.err != nil {
				return r
			}
			r.changes++
		}
		select {
		case <-stop:
			return r
		default:
		}
	}
}
