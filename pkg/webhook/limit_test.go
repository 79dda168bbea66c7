package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	h, err := New(exempt.Perimeter{}, r, nil, noNamespaces{}, Options{})
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

// reviewIn is a request for an object in a namespace, as API servers write it.
func reviewIn(namespace string, n int) string {
	return strings.Replace(reviewOfSize(n), `"operation"`, `"namespace":"`+namespace+`","operation"`, 1)
}

// idle tells whether nothing is reserved any more.
func idle(h *Handler) bool {
	l := h.limits
	l.progress.mu.Lock()
	defer l.progress.mu.Unlock()
	return l.first.Idle() && l.rest.Idle() && l.small.Idle() && l.large.Idle() && l.policies.Idle() && len(l.progress.of) == 0
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
	code, _, err := ask(ctx, s, query, body)
	return code, err
}

func ask(ctx context.Context, s *httptest.Server, query string, body io.Reader) (code int, text string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+Path+query, body)
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := s.Client().Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

// TestInProgressIsBounded sends more than is worked on at a time. Nothing leaks, and
// nobody is told that it was too much who has nothing else in progress.
func TestInProgressIsBounded(t *testing.T) {
	b := blocking{entered: make(chan struct{}, 1000), leave: make(chan struct{}), patient: true}
	h := limited(t, b)
	s := httptest.NewServer(h)
	defer s.Close()
	type answered struct {
		code, limited int
	}
	answers := make(chan answered, 1000)
	start := func(namespace, query string) {
		code, text, err := ask(t.Context(), s, query, strings.NewReader(reviewIn(namespace, 100)))
		if err != nil {
			t.Error(err)
		}
		answers <- answered{code, strings.Count(text, `"code":429`)}
	}
	// The lane of an address has half of the seats, each taken by one namespace.
	small, _ := busy()
	lane := 4 * small / 2
	for i := range lane {
		go start(fmt.Sprintf("team-%d", i), "?timeout=30s")
		<-b.entered
	}
	const extra = 6
	for i := range extra {
		go start(fmt.Sprintf("other-%d", i), "?timeout=600ms")
	}
	for range extra {
		if got := <-answers; got != (answered{http.StatusServiceUnavailable, 0}) {
			t.Errorf("got %+v beyond the %d that fit, want 503", got, lane)
		}
	}
	close(b.leave)
	for range lane {
		if got := <-answers; got != (answered{http.StatusOK, 0}) {
			t.Errorf("got %+v among the %d that fit, want 200", got, lane)
		}
	}
	awaitIdle(t, h)
}

// TestOwnLoadIsDenied: what a namespace has in progress keeps its own requests out,
// with a denial that nobody sends again by itself, and no others; and a controller of
// the control plane is never denied for it.
func TestOwnLoadIsDenied(t *testing.T) {
	b := blocking{entered: make(chan struct{}, 1000), leave: make(chan struct{}), patient: true}
	reg := prometheus.NewRegistry()
	h, err := New(exempt.Perimeter{}, b, nil, noNamespaces{}, Options{Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	var wg sync.WaitGroup
	background := func(body string) {
		wg.Go(func() { _, _, _ = ask(t.Context(), s, "?timeout=30s", strings.NewReader(body)) })
	}
	small, _ := busy()
	for range small {
		background(reviewIn("flood", 100))
		background(strings.Replace(forTenant("flood"), "NAME", "a", 1))
	}
	for range small { // half of it in each lane
		<-b.entered
	}
	code, text, err := ask(t.Context(), s, "?timeout=600ms", strings.NewReader(reviewIn("flood", 100)))
	var review admissionv1.AdmissionReview
	if err = errors.Join(err, json.Unmarshal([]byte(text), &review)); err != nil || code != http.StatusOK {
		t.Fatalf("got %d %q, %v", code, text, err)
	}
	want := &admissionv1.AdmissionResponse{UID: "u", Result: &metav1.Status{
		Code: 429, Reason: metav1.StatusReasonTooManyRequests,
		Message: `namespace "flood" has more requests in progress than its share of Fusegate: this one was not judged, try again later`,
	}}
	if diff := cmp.Diff(want, review.Response); diff != "" {
		t.Errorf("a request of the flood (-want +got):\n%s", diff)
	}
	if code, text, err := ask(t.Context(), s, "?timeout=600ms", strings.NewReader(forTenant("flood"))); code != http.StatusServiceUnavailable || err != nil {
		t.Errorf("a controller: got %d %q, %v, want 503", code, text, err)
	}
	go background(reviewIn("honest", 100))
	<-b.entered
	close(b.leave)
	wg.Wait()
	awaitIdle(t, h)
}

// noNamespaces knows none.
type noNamespaces struct{}

func (noNamespaces) Namespace(context.Context, string) policy.Namespace { return policy.Namespace{} }

// forTenant is what the controller of ReplicaSets sends.
func forTenant(namespace string) string {
	return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u",` +
		`"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},"namespace":"` + namespace + `","operation":"CREATE",` +
		`"userInfo":{"username":"system:serviceaccount:kube-system:replicaset-controller","groups":["system:serviceaccounts:kube-system"]},"object":{"a":"b"}}}`
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
// room when three quarters of the time have passed, and gets no verdict.
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

// TestLateBodies: bodies that do not arrive in time are denied where as many of the same
// namespace come at once as are judged at a time, and let in elsewhere.
func TestLateBodies(t *testing.T) {
	h := limited(t, policyFunc(func() policy.Result { t.Error("reviewed"); return policy.Result{} }))
	s := httptest.NewServer(h)
	defer s.Close()
	denied := `"code":429`
	for name, tc := range map[string]struct {
		reason string
		bodies []string
		want   string
	}{
		"Crowd":      {"a namespace is in its own way", slices.Repeat([]string{reviewIn("flood", 20<<10)}, 8), denied},
		"One":        {"nobody of its own is in its way", []string{reviewIn("one", 20<<10)}, "HTTP/1.1 408 "},
		"Others":     {"others are in its way", []string{reviewIn("a", 20<<10), reviewIn("b", 20<<10), reviewIn("c", 20<<10), reviewIn("d", 20<<10)}, "HTTP/1.1 408 "},
		"Controller": {"a controller's Pods are in their own way", slices.Repeat([]string{forTenant("flood")}, 8), "HTTP/1.1 408 "},
		"Unknown":    {"it did not say whose it is", slices.Repeat([]string{`{"kind":"AdmissionReview",`}, 8), "HTTP/1.1 408 "},
	} {
		t.Run(name, func(t *testing.T) {
			var conns []net.Conn
			for _, body := range tc.bodies {
				conn, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				_, err = fmt.Fprintf(conn, "POST %s?timeout=1s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n%s", Path, body[:len(body)-5])
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, conn)
			}
			for i, conn := range conns {
				answer, err := io.ReadAll(conn)
				if err != nil || !strings.Contains(string(answer), tc.want) || tc.want != denied && strings.Contains(string(answer), denied) {
					t.Errorf("%s: request %d got %q, %v, want %q", tc.reason, i, answer, err, tc.want)
				}
			}
			awaitIdle(t, h)
		})
	}
}

// TestLateVerdicts: what could not be judged in time is denied where as many of the same
// namespace were in progress as are judged at a time, and let in elsewhere.
func TestLateVerdicts(t *testing.T) {
	_, large := busy()
	deny, warn := policy.Constraint{Kind: "K", Name: "d", Action: policy.Deny}, policy.Constraint{Kind: "K", Name: "w", Action: policy.Warn}
	for name, tc := range map[string]struct {
		reason string
		n      int
		body   string
		result policy.Result
		want   string
	}{
		"All":        {"nothing was judged", large / 2, reviewIn("a", 9), policy.Result{}, `"code":429`},
		"Some":       {"something else was judged", large / 2, reviewIn("a", 9), policy.Result{Evaluated: 1}, `"code":429`},
		"Review":     {"no constraint was begun", large / 2, reviewIn("a", 9), policy.Result{Faults: []policy.Fault{{Cause: policy.CauseTimeout, Err: context.DeadlineExceeded}}}, `"code":429`},
		"Denied":     {"it is denied all the same", large / 2, reviewIn("a", 9), policy.Result{Evaluated: 1, Violations: []policy.Violation{{Constraint: deny, Message: "no"}}}, `[d] no`},
		"Warns":      {"the constraint denies nothing", large / 2, reviewIn("a", 9), policy.Result{Evaluated: 1, Faults: []policy.Fault{{Constraint: warn, Cause: policy.CauseTimeout, Err: context.DeadlineExceeded}}}, `"allowed":true`},
		"Policy":     {"it did not run out of time", large / 2, reviewIn("a", 9), policy.Result{Evaluated: 1, Faults: []policy.Fault{{Constraint: deny, Cause: policy.CausePolicy, Err: errors.New("x")}}}, `"allowed":true`},
		"One":        {"nobody of its own was in its way", 1, reviewIn("a", 9), policy.Result{Evaluated: 1}, `"allowed":true`},
		"Controller": {"it is a controller's", large / 2, forTenant("a"), policy.Result{Evaluated: 1}, `"allowed":true`},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.result.Faults == nil {
				tc.result.Faults = []policy.Fault{{Constraint: deny, Cause: policy.CauseTimeout, Err: context.DeadlineExceeded}}
			}
			var all sync.WaitGroup
			all.Add(tc.n)
			h := limited(t, policyFunc(func() policy.Result { all.Done(); all.Wait(); return tc.result }))
			s := httptest.NewServer(h)
			defer s.Close()
			var wg sync.WaitGroup
			for range tc.n {
				wg.Go(func() {
					if _, text, err := ask(t.Context(), s, "", strings.NewReader(tc.body)); err != nil || !strings.Contains(text, tc.want) {
						t.Errorf("%s: got %q, %v, want %q", tc.reason, text, err, tc.want)
					}
				})
			}
			wg.Wait()
			awaitIdle(t, h)
		})
	}
}

// TestRoomIsForWhatHasCome: neither what is announced nor what may come takes room.
func TestRoomIsForWhatHasCome(t *testing.T) {
	for name, length := range map[string]int64{"Announced": maxBody, "Unknown": -1} {
		t.Run(name, func(t *testing.T) {
			h := limited(t, policyFunc(func() policy.Result { return policy.Result{} }))
			r, w := io.Pipe()
			request := httptest.NewRequest(http.MethodPost, Path, r)
			request.Header.Set("Content-Type", "application/json")
			request.ContentLength = length
			done := make(chan struct{})
			go func() {
				h.ServeHTTP(httptest.NewRecorder(), request)
				close(done)
			}()
			for _, sent := range []int{100, 50 << 10} {
				if _, err := w.Write(bytes.Repeat([]byte(" "), sent)); err != nil {
					t.Fatal(err)
				}
				if h.limits.first.Idle() || !h.limits.rest.Idle() {
					t.Errorf("after %d bytes of the body there is room taken beyond the first %d bytes", sent, maxHead)
				}
			}
			_ = w.Close()
			<-done
			if !idle(h) {
				t.Error("something is still reserved")
			}
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
	h := limited(t, policyFunc(func() policy.Result { return policy.Result{} }))
	s := httptest.NewServer(h)
	defer s.Close()
	biggest := strings.Replace(reviewOfSize(0), `""`, "["+strings.Repeat("[],", 15<<20)+"[]]", 1)
	if code, text, err := ask(t.Context(), s, "?timeout=3s", strings.NewReader(biggest)); code == http.StatusServiceUnavailable || err != nil {
		t.Errorf("the biggest review: got %d %q, %v", code, text, err)
	}
	awaitIdle(t, h)
}
