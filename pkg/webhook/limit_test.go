package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

// blocking is a Reviewer that says when it is asked and waits to be let go.
type blocking struct {
	entered chan struct{}
	leave   chan struct{}
	// patient ignores that the client has gone or time is up.
	patient bool
}

func (b blocking) Review(ctx context.Context, _ *policy.Review) policy.Result {
	b.entered <- struct{}{}
	if b.patient {
		<-b.leave
		return policy.Result{}
	}
	select {
	case <-b.leave:
	case <-ctx.Done():
	}
	return policy.Result{}
}

func limited(t *testing.T, r Reviewer) *Handler {
	t.Helper()
	h, err := New(exempt.Perimeter{}, r, nil, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// reviewOfSize is a request for a cluster-scoped object with so many bytes.
func reviewOfSize(n int) string {
	const head = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":"CREATE",` +
		`"kind":{"version":"v1","kind":"Thing"},"resource":{"version":"v1","resource":"things"},"object":{"a":"`
	return head + strings.Repeat("x", n) + `"}}}`
}

// idle tells whether nothing is reserved any more.
func idle(h *Handler) bool {
	if !h.limits.bodies.TryAcquire(maxBodies) {
		return false
	}
	defer h.limits.bodies.Release(maxBodies)
	if !h.limits.work.TryAcquire(maxWork) {
		return false
	}
	h.limits.work.Release(maxWork)
	return true
}

func awaitIdle(t *testing.T, h *Handler) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !idle(h); {
		if time.Now().After(deadline) {
			t.Fatal("something is still reserved")
		}
		awaitTick(t)
	}
}

func awaitTick(t *testing.T) {
	select {
	case <-time.After(5 * time.Millisecond):
	case <-t.Context().Done():
	}
}

func send(ctx context.Context, s *httptest.Server, query string, body io.Reader) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+Path+query, body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := s.Client().Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// TestInProgressIsBounded sends more bodies than fit. Those for which there is
// no room until their time is up are turned away, and nothing leaks.
func TestInProgressIsBounded(t *testing.T) {
	// A body of unknown length counts as the longest there may be.
	unknown := func() io.Reader { return struct{ io.Reader }{strings.NewReader(reviewOfSize(100))} }
	const fit, extra = maxBodies / maxBody, 6
	b := blocking{entered: make(chan struct{}, fit+extra), leave: make(chan struct{}), patient: true}
	h := limited(t, b)
	s := httptest.NewServer(h)
	defer s.Close()
	codes := make(chan int, fit+extra)
	start := func(query string) {
		code, err := send(t.Context(), s, query, unknown())
		if err != nil {
			t.Error(err)
		}
		codes <- code
	}
	for range fit {
		go start("?timeout=3s")
		<-b.entered
	}
	for range extra {
		go start("?timeout=300ms")
	}
	for range extra {
		if code := <-codes; code != http.StatusServiceUnavailable {
			t.Errorf("got %d beyond the %d that fit, want 503", code, fit)
		}
	}
	close(b.leave)
	for range fit {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("got %d among the %d that fit, want 200", code, fit)
		}
	}
	awaitIdle(t, h)
	if code, err := send(t.Context(), s, "", unknown()); code != http.StatusOK || err != nil {
		t.Errorf("afterwards: got %d, %v, want 200", code, err)
	}
}

// TestManySmall: far more small requests than are worked on at once are all
// answered, since they wait for each other.
func TestManySmall(t *testing.T) {
	h := limited(t, policyFunc(func() policy.Result { return policy.Result{} }))
	s := httptest.NewServer(h)
	defer s.Close()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				if code, err := send(t.Context(), s, "?timeout=3s", strings.NewReader(reviewOfSize(100))); code != http.StatusOK {
					t.Errorf("got %d, %v, want 200", code, err)
					return
				}
			}
		})
	}
	wg.Wait()
	awaitIdle(t, h)
}

type policyFunc func() policy.Result

func (f policyFunc) Review(context.Context, *policy.Review) policy.Result { return f() }

// TestSlowClient: a client that announces a body and does not send it loses its
// room when half of the time has passed, and gets no verdict.
func TestSlowClient(t *testing.T) {
	h := limited(t, policyFunc(func() policy.Result { t.Error("reviewed"); return policy.Result{} }))
	s := httptest.NewServer(h)
	defer s.Close()
	for name, header := range map[string]string{
		"Length":  "Content-Length: 50000000",
		"Chunked": "Transfer-Encoding: chunked",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			start := time.Now()
			_, err = io.WriteString(conn, "POST "+Path+"?timeout=1s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+header+"\r\n\r\n")
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if took := time.Since(start); err != nil || took > 5*time.Second {
				t.Fatalf("waited %s: %v", took, err)
			}
			if !bytes.HasPrefix(answer, []byte("HTTP/1.1 408 ")) || bytes.Contains(answer, []byte("allowed")) {
				t.Errorf("got %q, want 408", answer)
			}
			awaitIdle(t, h)
		})
	}
}

// TestClientLeaves: a client that goes in the middle of its body, or while its
// request is judged, leaves nothing behind.
func TestClientLeaves(t *testing.T) {
	b := blocking{entered: make(chan struct{}, 1), leave: make(chan struct{})}
	h := limited(t, b)
	s := httptest.NewServer(h)
	defer s.Close()
	t.Run("InBody", func(t *testing.T) {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(conn, "POST "+Path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"kind\":")
		if err = errors.Join(err, conn.Close()); err != nil {
			t.Fatal(err)
		}
		awaitIdle(t, h)
	})
	t.Run("InReview", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := send(ctx, s, "?timeout=3s", strings.NewReader(reviewOfSize(100)))
			done <- err
		}()
		<-b.entered
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want a canceled request", err)
		}
		awaitIdle(t, h)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the review went on for %s", took)
		}
	})
}

// TestReadDeadlineEndsWithTheBody relies on the server for it: the time for the body does not cut off the
// review, nor the next request on the connection.
func TestReadDeadlineEndsWithTheBody(t *testing.T) {
	h := limited(t, waiting{})
	s := httptest.NewServer(h)
	defer s.Close()
	for range 2 {
		code, err := send(t.Context(), s, "?timeout=1s", strings.NewReader(reviewOfSize(100)))
		if code != http.StatusOK || err != nil {
			t.Fatalf("got %d, %v, want 200 after more than half of the time", code, err)
		}
	}
}

// waiting is a Reviewer that takes three quarters of its time.
type waiting struct{}

func (waiting) Review(ctx context.Context, _ *policy.Review) policy.Result {
	deadline, _ := ctx.Deadline()
	timer := time.NewTimer(time.Until(deadline) * 3 / 4)
	defer timer.Stop()
	select {
	case <-timer.C:
		return policy.Result{}
	case <-ctx.Done():
		return policy.Result{Faults: []policy.Fault{{Cause: policy.CauseTimeout, Err: ctx.Err()}}}
	}
}

// TestCost: the estimate follows the number of values, and no body is too big
// to be begun at all.
func TestCost(t *testing.T) {
	text, values := `"`+strings.Repeat("x", 3<<20)+`"`, `[`+strings.Repeat("{},", 1<<20)+`{}]`
	if got := cost([]byte(text)); got > 16<<20 {
		t.Errorf("3 MiB of text: got %d", got)
	}
	if got := cost([]byte(values)); got < 256<<20 {
		t.Errorf("a million empty objects: got %d, they take more than 256 MiB", got)
	}
	l := newLimits()
	end, err := l.begin(t.Context(), bytes.Repeat([]byte("[{"), 8<<20))
	if err != nil {
		t.Fatalf("the biggest review: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.begin(ctx, []byte("{}")); err == nil {
		t.Error("two at once fit beside the biggest")
	}
	end()
	end, err = l.begin(t.Context(), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	end()
}
