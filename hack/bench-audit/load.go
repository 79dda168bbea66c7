package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fusegate/fusegate/pkg/webhook"

	"github.com/fusegate/fusegate/hack/rig"
)

const (
	// askers are how many requests are in flight while capacity is measured.
	askers = 8
	// capacityFor is how long that takes.
	capacityFor = 4 * time.Second
	// share is which part of the capacity is asked for after that.
	share = 4
	// maxInFlight is how many changes an API server works on at a time, as it is
	// configured by default (--max-mutating-requests-inflight).
	maxInFlight = 200
	// idleConnections is how many connections to a webhook an API server keeps
	// (client-go's transport, idleConnsPerHost). It speaks HTTP/1.1 with it.
	idleConnections = 25
)

// load is what asks the webhook.
type load struct {
	client http.Client
	url    string
	bodies [][]byte
}

// measureLoad prints the latencies of the webhook with an audit in another
// process, and without, in turns.
func (s *stage) measureLoad(ctx context.Context) error {
	s.pinAll()
	p, err := s.serve(ctx)
	if err != nil {
		return err
	}
	hook, l, err := s.armed(ctx, p)
	if err = errors.Join(err, p.Stop()); err != nil {
		return err
	}
	return errors.Join(s.rounds(ctx, l, hook), hook.Stop())
}

// armed applies policies, and has a webhook in another process enforce them, which
// p arms.
func (s *stage) armed(ctx context.Context, p *process) (*process, *load, error) {
	if err := s.policies(ctx); err != nil {
		return nil, nil, err
	}
	hook, l, err := s.webhook(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, step := range []func() error{
		func() error { return s.arm(ctx, p, l) },
		func() error { return s.await(ctx, s.audited) },
		func() error { return s.calm(ctx) },
	} {
		if err := step(); err != nil {
			return nil, nil, errors.Join(err, hook.Stop())
		}
	}
	return hook, l, nil
}

// pinAll keeps the programs that take part in memory.
func (s *stage) pinAll() {
	programs := []string{s.binary, fmt.Sprintf("/proc/%d/exe", os.Getpid())}
	for _, pid := range s.plane.Processes() {
		programs = append(programs, fmt.Sprintf("/proc/%d/exe", pid))
	}
	for _, p := range programs {
		if err := pin(p); err != nil {
			fmt.Fprintln(os.Stderr, "bench-audit: latencies may tell of the disk:", err)
		}
	}
}

// webhook starts a webhook, and waits until it judges.
func (s *stage) webhook(ctx context.Context) (*process, *load, error) {
	dir := filepath.Join(s.plane.Dir(), "webhook")
	if err := rig.Certify(dir); err != nil {
		return nil, nil, err
	}
	address, err := rig.Address()
	if err != nil {
		return nil, nil, err
	}
	p, err := s.start(ctx, "--roles=webhook", "--listen", address, "--cert-dir", dir)
	if err != nil {
		return nil, nil, err
	}
	l := &load{url: "https://" + address + webhook.Path}
	l.client.Transport = &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // our own, see rig.Certify
		MaxIdleConnsPerHost: idleConnections,
	}
	if err := l.write(); err != nil {
		return nil, nil, errors.Join(err, p.Stop())
	}
	if err := s.await(ctx, func(ctx context.Context) (bool, error) { return l.ask(ctx, 0) == nil, nil }); err != nil {
		return nil, nil, errors.Join(err, p.Stop())
	}
	return p, l, nil
}

// write makes reviews of Pods.
func (l *load) write() error {
	for i := range 100 {
		p := pod(i)
		p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		review := admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
			Request: &admissionv1.AdmissionRequest{
				UID: "1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Name: p.Name, Namespace: p.Namespace,
				Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
				Operation: admissionv1.Create, UserInfo: authenticationv1.UserInfo{Username: "alice"},
				Object: runtime.RawExtension{Raw: text},
			},
		}
		body, err := json.Marshal(review)
		if err != nil {
			return err
		}
		l.bodies = append(l.bodies, body)
	}
	return nil
}

func (l *load) ask(ctx context.Context, i int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(l.bodies[i%len(l.bodies)]))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the webhook answered %s: %.200s", resp.Status, text)
	}
	return nil
}

// capacity is how many requests are answered in a second at most.
func (l *load) capacity(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, capacityFor)
	defer cancel()
	counts, errs := make([]int, askers), make([]error, askers)
	var tasks sync.WaitGroup
	for n := range askers {
		tasks.Go(func() {
			for ctx.Err() == nil && errs[n] == nil {
				if err := l.ask(ctx, counts[n]); ctx.Err() == nil {
					errs[n] = err
				}
				counts[n]++
			}
		})
	}
	tasks.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / capacityFor.Seconds(), errors.Join(errs...)
}

// answer is how long after it was due one came.
type answer struct {
	due  time.Duration // since the beginning
	took time.Duration
}

// latencies asks at a steady rate, whatever the answers take, until ctx ends.
func (l *load) latencies(ctx context.Context, rate float64) ([]answer, error) {
	var mu sync.Mutex
	var out []answer
	var errs []error
	slots := make(chan struct{}, maxInFlight)
	var tasks sync.WaitGroup
	begin := time.Now()
	for i := 0; ; i++ {
		due := time.Duration(float64(i) / rate * float64(time.Second))
		timer := time.NewTimer(time.Until(begin.Add(due)))
		select {
		case <-ctx.Done():
			tasks.Wait()
			return out, errors.Join(errs...)
		case <-timer.C:
		}
		slots <- struct{}{}
		tasks.Go(func() {
			defer func() { <-slots }()
			err := l.ask(context.WithoutCancel(ctx), i)
			took := time.Since(begin.Add(due))
			mu.Lock()
			defer mu.Unlock()
			out = append(out, answer{due, took})
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
}

// under asks while something is done, and tells how long the answers took. The
// first of them are left out.
func (s *stage) under(ctx context.Context, l *load, rate float64, pids map[string]int, do func(ctx context.Context) error) ([]time.Duration, error) {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	var done error
	var line timeline
	var tasks sync.WaitGroup
	tasks.Go(func() {
		defer stop()
		done = do(ctx)
	})
	if s.timeline {
		tasks.Go(func() { line = s.record(asking, pids) })
	}
	out, err := l.latencies(asking, rate)
	tasks.Wait()
	line.print(out)
	return settled(out), errors.Join(err, done)
}

// settled is how long answers took, but for the first.
func settled(answers []answer) (out []time.Duration) {
	for _, a := range answers {
		if a.due >= settling {
			out = append(out, a.took)
		}
	}
	return out
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
