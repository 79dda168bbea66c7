package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/test/controlplane"
)

// startLimit is how long the second API server may take.
const startLimit = 3 * time.Minute

// outcome is what came of a write or a start.
type outcome struct {
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	// Error is why it is not OK.
	Error string `json:"error,omitempty"`
}

// trial is one run of one shape.
type trial struct {
	// Start is the second API server's, up to its readiness or its end.
	Start outcome `json:"start"`
	// Restored is how many of the missing roles were there afterwards.
	Restored int `json:"rolesRestored"`
	// Writes are those of the probes, in their order.
	Writes []outcome `json:"writes"`
	// Calls is how often the backend was called during all that.
	Calls int `json:"calls"`
}

// play runs every shape and returns a row for each. The shapes take turns, so
// that what else the machine does meets them all.
func (s *stage) play(ctx context.Context, shapes []shape, runs int) ([]row, error) {
	rows := make([]row, len(shapes))
	for i := range runs {
		for j, sh := range shapes {
			t, err := s.try(ctx, sh, bootstrapped)
			if err != nil {
				return nil, fmt.Errorf("%s, run %d: %w", sh.name, i+1, err)
			}
			fmt.Fprintf(s.out, "%s, run %d of %d: %s\n", sh.name, i+1, runs, t)
			rows[j].Webhook, rows[j].Says, rows[j].Runs = sh.name, sh.says, append(rows[j].Runs, t)
		}
	}
	for i := range rows {
		rows[i].Median = median(rows[i].Runs)
	}
	return rows, nil
}

// try runs a shape once, from a state in which some roles are missing to one in
// which neither the webhook nor the second API server is there.
func (s *stage) try(ctx context.Context, sh shape, missing []string) (t trial, err error) {
	if err := s.deleteRoles(ctx, missing); err != nil {
		return trial{}, err
	}
	b, err := newBlackhole()
	if err != nil {
		return trial{}, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	disarm, err := s.arm(ctx, sh, b)
	if err != nil {
		return trial{}, err
	}
	defer func() {
		if ctx.Err() == nil { // Otherwise all goes away anyway.
			err = errors.Join(err, disarm(ctx))
		}
	}()

	before := b.calls()
	var writing sync.WaitGroup
	writing.Go(func() { t.Writes = s.writeAll(ctx) })
	t.Start = s.startSecond(ctx)
	writing.Wait()
	t.Calls = b.calls() - before
	if ctx.Err() != nil {
		return trial{}, context.Cause(ctx)
	}
	if err := s.plane.StopAPIServer(ctx, second); err != nil {
		return trial{}, fmt.Errorf("stopping the second API server: %w", err)
	}
	t.Restored, err = s.restored(ctx, missing)
	return t, err
}

func (s *stage) deleteRoles(ctx context.Context, names []string) error {
	for _, name := range names {
		err := s.admin.RbacV1().ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting a role: %w", err)
		}
	}
	return nil
}

// restored counts the roles that are back.
func (s *stage) restored(ctx context.Context, names []string) (int, error) {
	n := 0
	for _, name := range names {
		_, err := s.admin.RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("looking for a role: %w", err)
		}
		if err == nil {
			n++
		}
	}
	return n, nil
}

// arm registers the webhook and returns once the first API server calls it.
// What it returns takes it away and returns once it is not called any more.
func (s *stage) arm(ctx context.Context, sh shape, b *blackhole) (disarm func(context.Context) error, err error) {
	if sh.configuration == nil {
		return func(context.Context) error { return nil }, nil
	}
	_, served, err := s.admin.Discovery().ServerGroupsAndResources()
	if err != nil {
		return nil, fmt.Errorf("discovering what the cluster serves: %w", err)
	}
	c, err := sh.configuration(b, served)
	if err != nil {
		return nil, err
	}
	configurations := s.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := configurations.Create(ctx, c, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("registering the webhook: %w", err)
	}
	disarm = func(ctx context.Context) error {
		if err := configurations.Delete(ctx, c.Name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("removing the webhook: %w", err)
		}
		return s.awaitSilence(ctx, b)
	}
	if err := s.awaitCall(ctx, b); err != nil {
		return nil, err
	}
	return disarm, nil
}

// awaitCall returns once the backend has been called. The tenant's write, which
// every webhook here intercepts, is repeated until then, but not waited for.
func (s *stage) awaitCall(ctx context.Context, b *blackhole) error {
	err := eventually(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		written := make(chan error, 1)
		go func() { written <- s.tenant().rehearse(ctx) }()
		select {
		case <-b.called:
			return nil
		case err := <-written:
			return errors.Join(errors.New("the backend is not called"), err)
		}
	})
	if err != nil {
		return fmt.Errorf("waiting for the API server to use the webhook: %w", err)
	}
	return nil
}

// awaitSilence returns once the tenant's write gets through without a call.
func (s *stage) awaitSilence(ctx context.Context, b *blackhole) error {
	err := eventually(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		before := b.calls()
		if err := s.tenant().rehearse(ctx); err != nil {
			return err
		}
		if b.calls() != before {
			return errors.New("the backend is still called")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the API server to forget the webhook: %w", err)
	}
	return nil
}

func (s *stage) tenant() probe { return s.probes[len(s.probes)-1] }

// writeAll makes the writes of all probes at the same time.
func (s *stage) writeAll(ctx context.Context) []outcome {
	out := make([]outcome, len(s.probes))
	var wg sync.WaitGroup
	for i, p := range s.probes {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, longest)
			defer cancel()
			start := time.Now()
			err := p.write(ctx)
			out[i] = newOutcome(time.Since(start), err)
		})
	}
	wg.Wait()
	return out
}

// startSecond starts the second API server and waits until it is ready or has
// ended.
func (s *stage) startSecond(ctx context.Context) outcome {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	start := time.Now()
	err := s.plane.StartAPIServer(ctx, second)
	if end := (*controlplane.EndedError)(nil); errors.As(err, &end) {
		return outcome{Seconds: end.After.Seconds(), Error: end.Reason}
	}
	return newOutcome(time.Since(start), err)
}

func newOutcome(took time.Duration, err error) outcome {
	o := outcome{OK: err == nil, Seconds: took.Seconds()}
	if err != nil {
		o.Error = err.Error()
	}
	return o
}
