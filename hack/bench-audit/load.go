package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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
	"k8s.io/client-go/util/cert"

	"github.com/fusegate/fusegate/pkg/webhook"
)

const (
	// askers are how many requests are in flight while capacity is measured.
	askers = 8
	// capacityFor is how long that takes.
	capacityFor = 4 * time.Second
	// share is which part of the capacity is asked for after that.
	share = 4
	// maxInFlight bounds the requests that wait.
	maxInFlight = 512
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
	p, err := s.serve(ctx)
	if err != nil {
		return err
	}
	err = s.policies(ctx)
	if err = errors.Join(err, p.stop()); err != nil {
		return err
	}
	hook, l, err := s.webhook(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.rounds(ctx, l), hook.stop())
}

// webhook starts a webhook, and waits until it judges.
func (s *stage) webhook(ctx context.Context) (*process, *load, error) {
	dir := filepath.Join(s.plane.Dir(), "webhook")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return nil, nil, err
	}
	for name, data := range map[string][]byte{"tls.crt": crt, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, nil, err
		}
	}
	address, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	p, err := s.start(ctx, "--roles=webhook", "--listen", address, "--cert-dir", dir)
	if err != nil {
		return nil, nil, err
	}
	l := &load{url: "https://" + address + webhook.Path}
	l.client.Transport = &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // our own, made above
		MaxIdleConnsPerHost: maxInFlight,
	}
	if err := l.write(); err != nil {
		return nil, nil, errors.Join(err, p.stop())
	}
	return p, l, s.await(ctx, func(ctx context.Context) (bool, error) { return l.ask(ctx, 0) == nil, nil })
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
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

// latencies asks at a steady rate, whatever the answers take, and returns how
// long after the time that they were due they came.
func (l *load) latencies(ctx context.Context, rate float64, during time.Duration) ([]time.Duration, error) {
	n := int(rate * during.Seconds())
	out, errs := make([]time.Duration, n), make([]error, n)
	slots := make(chan struct{}, maxInFlight)
	var tasks sync.WaitGroup
	begin := time.Now()
	for i := range n {
		due := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
		}
		slots <- struct{}{}
		tasks.Go(func() {
			defer func() { <-slots }()
			errs[i] = l.ask(ctx, i)
			out[i] = time.Since(due)
		})
	}
	tasks.Wait()
	return out, errors.Join(errs...)
}

// rounds measures in turns with and without an audit that reads everything
// over and over again.
func (s *stage) rounds(ctx context.Context, l *load) error {
	if _, err := l.capacity(ctx); err != nil { // warm
		return err
	}
	capacity, err := l.capacity(ctx)
	if err != nil {
		return err
	}
	rate := capacity / share
	fmt.Printf("capacity: %.0f reviews a second; asked for: %.0f\n", capacity, rate)
	var without, with []time.Duration
	for n := range s.loadRounds {
		quiet, err := l.latencies(ctx, rate, s.idle)
		if err != nil {
			return err
		}
		loud, passes, err := s.underAudit(ctx, l, rate)
		if err != nil {
			return err
		}
		fmt.Printf("round %d: p50 %.2f ms, p99 %.2f ms without; p50 %.2f ms, p99 %.2f ms with an audit (%.1f passes over the Pods)\n",
			n+1, at(quiet, 50), at(quiet, 99), at(loud, 50), at(loud, 99), passes)
		without, with = append(without, quiet...), append(with, loud...)
	}
	fmt.Printf("p99-without: %.2f ms  p99-with: %.2f ms  ratio: %.2f\n", at(without, 99), at(with, 99), at(with, 99)/at(without, 99))
	return nil
}

func (s *stage) underAudit(ctx context.Context, l *load, rate float64) (out []time.Duration, passes float64, err error) {
	p, err := s.start(ctx, "--roles=controller", "--audit-resync=1s")
	if err != nil {
		return nil, 0, err
	}
	err = s.await(ctx, func(context.Context) (bool, error) {
		return p.sum("fusegate_audit_objects_reviewed_total") > s.options.pods, nil
	})
	before := p.sum("fusegate_audit_objects_reviewed_total")
	if err == nil {
		out, err = l.latencies(ctx, rate, s.idle)
	}
	passes = float64(p.sum("fusegate_audit_objects_reviewed_total")-before) / float64(s.options.pods)
	return out, passes, errors.Join(err, p.stop())
}

// at is a percentile in milliseconds.
func at(of []time.Duration, percent int) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Seconds() * 1000
}
