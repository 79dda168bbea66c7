package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/webhook"
)

// sum adds up a metric.
func sum(t *testing.T, reg *prometheus.Registry, name string) (total float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}

// engineWith returns an engine with a template for each kind, of which the text are
// the rules, and a constraint by each that denies.
func engineWith(t *testing.T, rules map[string]string) *engine.Engine {
	t.Helper()
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	for kind, text := range rules {
		template, err := engine.ParseTemplate(&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": map[string]any{"name": strings.ToLower(kind)},
			"spec": map[string]any{
				"crd":     map[string]any{"spec": map[string]any{"names": map[string]any{"kind": kind}}},
				"targets": []any{map[string]any{"target": engine.TargetName, "rego": "package p\n" + text}},
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddTemplate(t.Context(), template); err != nil {
			t.Fatal(err)
		}
		c := &unstructured.Unstructured{}
		c.SetAPIVersion("constraints.gatekeeper.sh/v1beta1")
		c.SetKind(kind)
		c.SetName(strings.ToLower(kind))
		if err := e.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// TestTimesOfAReview: a review that is denied ends when half of the handler's time is
// over, one that is not has the rest but for the answer.
func TestTimesOfAReview(t *testing.T) {
	var start time.Time
	seen := reviewerFunc(func(ctx context.Context, r *policy.Review) policy.Result {
		deadline, ok := ctx.Deadline()
		half, whole := r.AnswerBy.Sub(start), deadline.Sub(start)
		if !ok || half < 1100*time.Millisecond || half > 1300*time.Millisecond || whole < 2200*time.Millisecond || whole > 2450*time.Millisecond {
			t.Errorf("a review that is denied has %v, and one that is not %v, want 1.25 and 2.4 s", half, whole)
		}
		if !r.Bounded {
			t.Error("the review is not bounded")
		}
		return policy.Result{Evaluated: 1}
	})
	h := newHandler(t, parts{reviewer: seen})
	start = time.Now()
	answered(t, post(h, request(t, nil)))
}

// TestDenialIsInTime: policies that never end beside one that denies, which comes last
// by its name and its own rule goes on. The answer is there when half of the time is
// over, and says what was not judged; if nothing denies, all of the time is used.
func TestDenialIsInTime(t *testing.T) {
	const (
		never  = "violation[{\"msg\": \"never\"}] { n := numbers.range(1, 3000); n[i]; n[j]; sprintf(\"%v\", [regex.replace(sprintf(\"%v\", [n]), \"[0-9]\", \"x\")]) == \"\" }\n"
		denies = "violation[{\"msg\": \"no\"}] { true }\n"
	)
	// The budget of a policy grows with the object.
	object := map[string]any{"metadata": map[string]any{}, "padding": strings.Repeat("x", 12<<20)}
	for name, tc := range map[string]struct {
		rules  map[string]string
		denied bool
		cutOff string
	}{
		"Denied":    {map[string]string{"A": denies, "B": never, "C": never}, true, "B/b, C/c"},
		"Inside":    {map[string]string{"A": denies + never}, true, "A/a"},
		"NotDenied": {map[string]string{"A": "violation[{\"msg\": \"no\"}] { false }\n", "B": never, "C": never}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			e := engineWith(t, tc.rules)
			timed := reviewerFunc(func(ctx context.Context, r *policy.Review) policy.Result {
				result := e.Review(ctx, r)
				deadline, _ := ctx.Deadline()
				// The handler's deadline is what a slow machine has to spare.
				if left := time.Until(deadline); tc.denied && left <= 700*time.Millisecond || !tc.denied && left > 800*time.Millisecond {
					t.Errorf("it ended with %v of its time left", left)
				}
				return result
			})
			h := newHandler(t, parts{reviewer: timed, options: webhook.Options{Metrics: reg}})
			got := answered(t, post(h, request(t, map[string]any{"object": object})))
			if got.Allowed == tc.denied || got.AuditAnnotations[webhook.AnnotationCutOff] != tc.cutOff {
				t.Errorf("got allowed %t, cut off %q, want %q", got.Allowed, got.AuditAnnotations, tc.cutOff)
			}
			want := 0
			if tc.cutOff != "" {
				want = strings.Count(tc.cutOff, "/")
			}
			if n := sum(t, reg, "fusegate_admission_cut_off_total"); n != float64(want) {
				t.Errorf("counted %v constraints as cut off, want %d", n, want)
			}
		})
	}
}

// TestHugeAnswer has an object of which everything is wrong. What is answered and
// logged of it is as large as of any other.
func TestHugeAnswer(t *testing.T) {
	const containers, constraints = 3500, 25
	rules := map[string]string{}
	for i := range constraints {
		rules[fmt.Sprintf("K%02d", i)] = `violation[{"msg": msg, "details": input.review.object}] { c := input.review.object.items[_]; msg := sprintf("container %v: %v", [c, "` + strings.Repeat("long ", 50) + `"]) }`
	}
	items := make([]any, containers)
	for i := range items {
		items[i] = fmt.Sprintf("c%05d", i)
	}
	var logged strings.Builder
	log := funcr.New(func(_, args string) { logged.WriteString(args) }, funcr.Options{})
	h := newHandler(t, parts{reviewer: engineWith(t, rules), options: webhook.Options{Log: log, LogDenies: true}})
	w := post(h, request(t, map[string]any{"object": map[string]any{"metadata": map[string]any{}, "items": items}}))
	got := answered(t, w)
	if got.Allowed || w.Body.Len() > 16<<10 || len(got.Result.Message) > policy.MaxAnswerText {
		t.Errorf("allowed %t, with a body of %d bytes and a message of %d", got.Allowed, w.Body.Len(), len(got.Result.Message))
	}
	if logged.Len() > 1<<20 {
		t.Errorf("%d bytes are logged", logged.Len())
	}
	if got.AuditAnnotations == nil && !strings.Contains(got.Result.Message, " and 3,4") {
		t.Errorf("got %q, want the rest counted", got.Result.Message)
	}
}

// TestLogAfterAnswer: what is logged does not keep the answer.
func TestLogAfterAnswer(t *testing.T) {
	answer := make(chan struct{})
	log := funcr.New(func(_, args string) {
		select {
		case <-answer:
		case <-time.After(10 * time.Second):
			t.Errorf("it was logged before it was answered: %s", args)
		}
	}, funcr.Options{})
	h := newHandler(t, parts{
		reviewer: finds(policy.Result{Faults: []policy.Fault{{Constraint: constraint("a", policy.Deny), Cause: policy.CauseInput, Err: errors.New("broken")}}}),
		options:  webhook.Options{Log: log},
	})
	s := httptest.NewServer(h)
	defer s.Close()
	resp, err := http.Post(s.URL+webhook.Path+"?timeout=3s", "application/json", strings.NewReader(request(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	buffer := make([]byte, resp.ContentLength)
	if _, err := resp.Body.Read(buffer); err != nil && len(buffer) == 0 || resp.StatusCode != http.StatusOK {
		t.Errorf("got %d, %v", resp.StatusCode, err)
	}
	close(answer)
}

// matcherFunc is a Matcher.
type matcherFunc func(*policy.Review) (policy.Constraint, bool)

func (f matcherFunc) Denying(r *policy.Review) (policy.Constraint, bool) { return f(r) }

// TestOversized: an object beyond a bound is refused unseen where a constraint would
// deny it, and judged like any other everywhere else.
func TestOversized(t *testing.T) {
	list := func(n int) []any { return make([]any, n) }
	pod := func(containers int) map[string]any {
		return map[string]any{"metadata": map[string]any{}, "spec": map[string]any{"containers": list(containers)}}
	}
	bytes := func(n int) map[string]any {
		return map[string]any{"metadata": map[string]any{}, "data": strings.Repeat("x", n)}
	}
	deep := func(n int) map[string]any {
		var v any = "x"
		for range n {
			v = []any{v}
		}
		return map[string]any{"metadata": map[string]any{}, "data": v}
	}
	sizes := webhook.Sizes{Bytes: 1000, Containers: 20, Depth: 50}
	for name, tc := range map[string]struct {
		reason    string
		operation string
		object    map[string]any
		old       map[string]any
		unmatched bool
		want      string // a part of the message; empty if it is judged
	}{
		"Small":      {reason: "within all bounds", operation: "CREATE", object: pod(20)},
		"Containers": {reason: "too many containers", operation: "CREATE", object: pod(21), want: "[big] the object has 21 containers, and no more than 20 are judged (maxObjectContainers)"},
		"Bytes":      {reason: "too long", operation: "CREATE", object: bytes(1000), want: "(maxObjectBytes)"},
		"Depth":      {reason: "too deep", operation: "CREATE", object: deep(60), want: "(maxObjectDepth)"},
		"Unmatched":  {reason: "no constraint denies it", operation: "CREATE", object: pod(21), unmatched: true},
		"Deleted":    {reason: "it must go", operation: "DELETE", old: pod(100)},
		"Grown":      {reason: "an update past the bound", operation: "UPDATE", object: pod(21), old: pod(20), want: "21 containers"},
		"GrownMore":  {reason: "an update of what is too large to what is more so", operation: "UPDATE", object: pod(31), old: pod(30), want: "31 containers"},
		"Mended":     {reason: "an update of what is too large already", operation: "UPDATE", object: pod(29), old: pod(30)},
		"Kept":       {reason: "it does not grow", operation: "UPDATE", object: pod(30), old: pod(30)},
		"Swapped":    {reason: "what was padding may not become containers", operation: "UPDATE", object: pod(30), old: bytes(2000), want: "30 containers"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			judged := false
			h := newHandler(t, parts{
				reviewer: reviewerFunc(func(context.Context, *policy.Review) policy.Result {
					judged = true
					return policy.Result{Evaluated: 1}
				}),
				options: webhook.Options{Metrics: reg, Sizes: sizes, Matcher: matcherFunc(func(*policy.Review) (policy.Constraint, bool) {
					return constraint("big", policy.Deny), !tc.unmatched
				})},
			})
			changes := map[string]any{"operation": tc.operation, "object": nil, "oldObject": nil}
			if tc.object != nil {
				changes["object"] = tc.object
			}
			if tc.old != nil {
				changes["oldObject"] = tc.old
			}
			got := answered(t, post(h, request(t, changes)))
			if got.Allowed != (tc.want == "") || !strings.Contains(got.Result.Message, tc.want) || judged != (tc.want == "") {
				t.Errorf("%s: got allowed %t, judged %t, %q, want %q", tc.reason, got.Allowed, judged, got.Result.Message, tc.want)
			}
			want := 0.0
			if tc.want != "" {
				want = 1
			}
			if n := sum(t, reg, "fusegate_admission_oversized_total"); n != want {
				t.Errorf("%s: counted %v, want %v", tc.reason, n, want)
			}
		})
	}
}
