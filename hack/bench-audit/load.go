package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"

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
	err = s.policies(ctx)
	if err = errors.Join(err, p.Stop()); err != nil {
		return err
	}
	hook, l, err := s.webhook(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.rounds(ctx, l, hook), hook.Stop())
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

// under asks while something is done, and tells how long the answers took.
func (s *stage) under(ctx context.Context, l *load, rate float64, pids map[string]int, do func(ctx context.Context) error) ([]answer, error) {
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
	return out, errors.Join(err, done)
}

// rounds measures in turns: a controller that starts and reads everything for the
// first time, one that goes on to read everything again, and for as long as that
// took nothing else going on.
func (s *stage) rounds(ctx context.Context, l *load, hook *process) error {
	if _, err := l.capacity(ctx); err != nil { // warm
		return err
	}
	capacity, err := l.capacity(ctx)
	if err != nil {
		return err
	}
	rate := capacity / share
	fmt.Printf("capacity: %.0f reviews a second; asked for: %.0f\n", capacity, rate)
	var all []roundFigures
	for n := range s.loadRounds {
		r, err := s.round(ctx, l, hook, rate)
		if err != nil {
			return err
		}
		fmt.Printf("round %d: p50 %.2f ms, p99 %.2f ms with a first pass of %.1f s; p50 %.2f ms, p99 %.2f ms with a later pass of %.1f s; p50 %.2f ms, p99 %.2f ms without, as long\n", n+1,
			at(r.starting, 50), at(r.starting, 99), r.first.Seconds(), at(r.with, 50), at(r.with, 99), r.later.Seconds(), at(r.without, 50), at(r.without, 99))
		all = append(all, r)
	}
	without := median(all, func(r roundFigures) []answer { return r.without })
	first := median(all, func(r roundFigures) []answer { return r.starting })
	with := median(all, func(r roundFigures) []answer { return r.with })
	fmt.Printf("medians of the rounds: p99-without: %.2f ms  p99-first: %.2f ms  p99-with: %.2f ms  ratio-first: %.2f  ratio: %.2f\n",
		without, first, with, first/without, with/without)
	return nil
}

// median is that of the rounds' p99, in milliseconds: a round in which the
// machine stood still says nothing about the others.
func median(of []roundFigures, side func(roundFigures) []answer) float64 {
	var out []float64
	for _, r := range of {
		out = append(out, at(side(r), 99))
	}
	slices.Sort(out)
	return out[len(out)/2]
}

// roundFigures are what one round measures.
type roundFigures struct {
	without, starting, with []answer
	first, later            time.Duration
}

func (s *stage) round(ctx context.Context, l *load, hook *process, rate float64) (out roundFigures, err error) {
	pids := s.plane.Processes()
	pids["webhook"], pids["clients"] = hook.PID(), os.Getpid()
	p, err := s.start(ctx, "--roles=controller", "--audit-resync=10s")
	if err != nil {
		return out, err
	}
	pids["controller"] = p.PID()
	out.starting, out.first, err = s.pass(ctx, l, rate, pids, p)
	if err == nil {
		out.with, out.later, err = s.pass(ctx, l, rate, pids, p)
	}
	delete(pids, "controller")
	if err = errors.Join(err, p.Stop()); err != nil {
		return out, err
	}
	out.without, err = s.under(ctx, l, rate, pids, func(ctx context.Context) error { return rest(ctx, out.later) })
	return out, err
}

// pass asks while a controller reviews as many objects as there are Pods.
func (s *stage) pass(ctx context.Context, l *load, rate float64, pids map[string]int, p *process) ([]answer, time.Duration, error) {
	began, before := time.Now(), p.sum(reviewed)
	out, err := s.under(ctx, l, rate, pids, func(ctx context.Context) error {
		// Asking is work for the process, so it is not done often.
		return wait.PollUntilContextTimeout(ctx, time.Second, 2*rig.Patience, true, func(context.Context) (bool, error) {
			return p.sum(reviewed)-before >= s.options.pods, nil
		})
	})
	return out, time.Since(began), err
}

// reviewed counts the objects that audit has reviewed.
const reviewed = "fusegate_audit_objects_reviewed_total"

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

// at is a percentile in milliseconds.
func at(of []answer, percent int) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(of), func(a, b answer) int { return cmp.Compare(a.took, b.took) })
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].took.Seconds() * 1000
}
