package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/fusegate/fusegate/hack/rig"
)

const (
	// window is how long a controller is let go on, and then held, in turns: it
	// is back before its Lease runs out.
	window = 4 * time.Second
	// settling is what of each window is not looked at.
	settling = 500 * time.Millisecond
	// resamples is how often the windows are drawn again for the interval of a
	// ratio, of which outside is the part left out on each side.
	resamples = 400
	outside   = 0.025
)

// pair are the answers of two stretches of the same length, one after the other.
type pair struct{ with, without []time.Duration }

// rounds measures in turns: a controller that starts and reads everything for the
// first time, and for as long as that took none; then one that goes on to read
// everything again and again, held every few seconds.
func (s *stage) rounds(ctx context.Context, l *load, hook *process) error {
	rate, err := l.quarter(ctx)
	if err != nil {
		return err
	}
	var first, later []pair
	for range s.loadRounds {
		started, passes, err := s.round(ctx, l, hook, rate)
		if err != nil {
			return err
		}
		first, later = append(first, started), append(later, passes...)
	}
	fmt.Printf("all, first passes: %s\n", compare(first))
	if len(later) > 0 {
		fmt.Printf("all, later passes: %s\n", compare(later))
	}
	return nil
}

// quarter returns the rate that is a quarter of the webhook's capacity.
func (l *load) quarter(ctx context.Context) (float64, error) {
	if _, err := l.capacity(ctx); err != nil { // warm
		return 0, err
	}
	capacity, err := l.capacity(ctx)
	if err != nil {
		return 0, err
	}
	rate := capacity / share
	fmt.Printf("capacity: %.0f reviews a second; asked for: %.0f\n", capacity, rate)
	return rate, nil
}

func (s *stage) round(ctx context.Context, l *load, hook *process, rate float64) (started pair, passes []pair, err error) {
	pids := s.plane.Processes()
	pids["webhook"], pids["clients"] = hook.PID(), os.Getpid()
	if started, err = s.firstPass(ctx, l, rate, pids); err != nil || s.windowPairs == 0 {
		return started, nil, err
	}
	p, err := s.start(ctx, "--roles=controller", "--audit-resync=1s")
	if err != nil {
		return pair{}, nil, err
	}
	pids["controller"] = p.PID()
	passes, err = s.windows(ctx, l, rate, pids, p)
	return started, passes, errors.Join(err, p.Stop())
}

// firstPass asks while a controller starts and reviews everything, and for as long
// without one.
func (s *stage) firstPass(ctx context.Context, l *load, rate float64, pids map[string]int) (out pair, err error) {
	p, err := s.serve(ctx)
	if err != nil {
		return pair{}, err
	}
	pids["controller"] = p.PID()
	out.with, err = s.under(ctx, l, rate, pids, func(ctx context.Context) error { return s.pass(ctx, p) })
	took := time.Since(p.Started)
	delete(pids, "controller")
	if err = errors.Join(err, p.Stop()); err != nil {
		return pair{}, err
	}
	out.without, err = s.under(ctx, l, rate, pids, func(ctx context.Context) error { return rest(ctx, took) })
	fmt.Printf("a first pass of %.1f s: %s\n", took.Seconds(), compare([]pair{out}))
	return out, err
}

// pass waits until a controller that was just started has reviewed everything.
func (s *stage) pass(ctx context.Context, p *process) error {
	// Asking is work for the process, so it is not done often.
	return wait.PollUntilContextTimeout(ctx, time.Second, 2*rig.Patience, true, func(context.Context) (bool, error) {
		return p.sum(reviewed) >= s.options.pods, nil
	})
}

// reviewed counts the objects that audit has reviewed.
const reviewed = "fusegate_audit_objects_reviewed_total"

// windows holds a controller every other window, once it is past its start.
func (s *stage) windows(ctx context.Context, l *load, rate float64, pids map[string]int, p *process) (out []pair, err error) {
	if err := s.pastStart(ctx); err != nil {
		return nil, err
	}
	before, began := p.sum(reviewed), time.Now()
	defer func() { err = errors.Join(err, send(p, syscall.SIGCONT)) }()
	for range s.windowPairs {
		var one pair
		for _, turn := range inAnyOrder(turn{syscall.SIGCONT, &one.with}, turn{syscall.SIGSTOP, &one.without}) {
			if err := send(p, turn.signal); err != nil {
				return nil, err
			}
			answers, err := s.under(ctx, l, rate, pids, func(ctx context.Context) error { return rest(ctx, window) })
			if err != nil {
				return nil, err
			}
			*turn.answers = answers
		}
		out = append(out, one)
	}
	if err := send(p, syscall.SIGCONT); err != nil {
		return nil, err
	}
	passes := float64(p.sum(reviewed)-before) / float64(s.options.pods)
	fmt.Printf("%.1f later passes in %.0f s, held for half of them: %s\n", passes, time.Since(began).Seconds(), compare(out))
	return out, nil
}

// turn is a signal to the controller, and what is answered after it.
type turn struct {
	signal  syscall.Signal
	answers *[]time.Duration
}

func inAnyOrder(a, b turn) []turn {
	if rand.N(2) == 0 {
		return []turn{a, b}
	}
	return []turn{b, a}
}

func send(p *process, s syscall.Signal) error {
	if err := syscall.Kill(p.PID(), s); err != nil {
		return fmt.Errorf("signalling the controller: %w", err)
	}
	return nil
}

// pastStart waits until a controller has done all that it does when it starts:
// last, what the one before it has left behind is removed.
func (s *stage) pastStart(ctx context.Context) error {
	return wait.PollUntilContextTimeout(ctx, 2*time.Second, rig.Patience, true, s.swept(2)) // the webhook, too
}

// compare tells the percentiles of both sides and, where there are several pairs,
// between what bounds the ratio is in 95 of 100 draws of as many pairs.
func compare(pairs []pair) string {
	with, without := percentiles(pairs, func(p pair) []time.Duration { return p.with }), percentiles(pairs, func(p pair) []time.Duration { return p.without })
	out := fmt.Sprintf("p50-without: %.2f ms  p50-with: %.2f ms  p99-without: %.2f ms  p99-with: %.2f ms  ratio: %.2f",
		without.p50, with.p50, without.p99, with.p99, with.p99/without.p99)
	if len(pairs) < 2 {
		return out
	}
	ratios := make([]float64, resamples)
	for i := range ratios {
		drawn := make([]pair, len(pairs))
		for n := range drawn {
			drawn[n] = pairs[rand.N(len(pairs))]
		}
		ratios[i] = percentiles(drawn, func(p pair) []time.Duration { return p.with }).p99 / percentiles(drawn, func(p pair) []time.Duration { return p.without }).p99
	}
	slices.Sort(ratios)
	low, high := ratios[int(outside*resamples)], ratios[resamples-1-int(outside*resamples)]
	return out + fmt.Sprintf("  (95 %%: %.2f to %.2f)", low, high)
}

// latency has percentiles in milliseconds.
type latency struct{ p50, p99 float64 }

func percentiles(pairs []pair, side func(pair) []time.Duration) latency {
	var all []time.Duration
	for _, p := range pairs {
		all = append(all, side(p)...)
	}
	if len(all) == 0 {
		return latency{}
	}
	slices.Sort(all)
	at := func(percent int) float64 { return all[min(len(all)-1, len(all)*percent/100)].Seconds() * 1000 }
	return latency{at(50), at(99)}
}
