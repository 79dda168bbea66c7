package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

const (
	// endless takes longer than a review has, on an object whose budget lets it.
	endless = `
	xs := numbers.range(1, 3000)
	some i, j in xs
	sprintf("%v%v", [regex.replace(sprintf("%v", [xs]), "[0-9]", "x"), [i, j]]) == ""`
	everyContainer = `violation[{"msg": msg}] { c := input.review.object.containers[_]; msg := sprintf("container %v is privileged", [c]) }`
)

// patience is the size of an object in bytes that has endless go on for many seconds.
const patience = 100 << 20

// padded is r with a larger object, and so a larger budget.
func padded(r *policy.Review, bytes int) *policy.Review {
	r.Object["padding"] = strings.Repeat("x", bytes)
	return r
}

// rules are constraints by their kinds, each with the Rego of its template's rules
// and its action.
type rules map[string]struct {
	rego   string
	action policy.Action
}

func engineOf(t testing.TB, newEngine func() (*engine.Engine, error), all rules) *engine.Engine {
	t.Helper()
	e, err := newEngine()
	if err != nil {
		t.Fatal(err)
	}
	for kind, rule := range all {
		parsed, err := engine.ParseTemplate(&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": map[string]any{"name": strings.ToLower(kind)},
			"spec": map[string]any{
				"crd":     map[string]any{"spec": map[string]any{"names": map[string]any{"kind": kind}}},
				"targets": []any{map[string]any{"target": engine.TargetName, "rego": "package p\nimport future.keywords.in\n" + rule.rego}},
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddTemplate(t.Context(), parsed); err != nil {
			t.Fatal(err)
		}
		c := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"enforcementAction": string(rule.action)}}}
		c.SetAPIVersion("constraints.gatekeeper.sh/v1beta1")
		c.SetKind(kind)
		c.SetName(strings.ToLower(kind))
		if err := e.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func pod(containers int) *policy.Review {
	names := make([]any, containers)
	for i := range names {
		names[i] = fmt.Sprintf("c%05d", (i*7919)%containers)
	}
	return &policy.Review{
		Kind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, Operation: policy.Create, Point: policy.PointWebhook,
		Object: map[string]any{"containers": names},
	}
}

var evaluators = map[string]func() (*engine.Engine, error){"compiled": engine.New, "interpreted": engine.NewReference}

// TestBoundedReview: a bounded review keeps the violations that an unbounded one
// has first, and counts exactly those that it does not.
func TestBoundedReview(t *testing.T) {
	all := rules{
		"Every": {everyContainer, policy.Deny},
		"Same":  {`violation[{"msg": "same", "details": {"n": n}}] { n := input.review.object.containers[_] }`, policy.Warn},
		"Whole": {`violation[{"msg": msg, "details": input.review}] { msg := input.review.object.containers[_] }`, policy.DryRun},
		"One":   {`violation[{"msg": "one"}] { true }`, policy.Deny},
	}
	for name, newEngine := range evaluators {
		t.Run(name, func(t *testing.T) {
			e := engineOf(t, newEngine, all)
			for _, n := range []int{1, 63, 64, 65, 700} {
				whole := e.Review(t.Context(), pod(n))
				bounded := pod(n)
				bounded.Bounded = true
				got := e.Review(t.Context(), bounded)
				for kind := range all {
					of := func(r policy.Result) (messages []string) {
						for _, v := range r.Violations {
							if v.Constraint.Kind == kind {
								messages = append(messages, v.Message)
							}
						}
						return messages
					}
					want, kept, more := of(whole), of(got), 0
					for _, m := range got.More {
						if m.Constraint.Kind == kind {
							more += m.Count
						}
					}
					if len(kept)+more != len(want) || len(kept) > policy.MaxKept {
						t.Errorf("%s with %d: kept %d and counted %d, want %d", kind, n, len(kept), more, len(want))
					}
					if diff := cmp.Diff(want[:len(kept)], kept); diff != "" {
						t.Errorf("%s with %d (-first of all +kept):\n%s", kind, n, diff)
					}
				}
				for _, v := range got.Violations {
					if text := fmt.Sprint(v.Details); len(text) > 8<<10 {
						t.Errorf("%s keeps details of %d bytes", v.Constraint, len(text))
					}
				}
			}
		})
	}
}

// kindsOf lists the kinds of constraints, sorted.
func kindsOf(constraints []policy.Constraint) (out []string) {
	for _, c := range constraints {
		out = append(out, c.Kind)
	}
	slices.Sort(out)
	return out
}

// TestDenialIsNotLate has policies that never end beside one that denies: with an
// AnswerBy the review ends when it comes, and else the first of them takes half of
// the time that there is, which is ten times as long.
func TestDenialIsNotLate(t *testing.T) {
	const limit, answerBy = 20 * time.Second, time.Second
	never := "violation[{\"msg\": \"never\"}] {" + endless + "}\n"
	cases := map[string]struct {
		reason   string
		all      rules
		messages []string
		cutOff   []string
	}{
		"Before": {
			reason:   "nothing is evaluated after a denial, and what is not is named",
			all:      rules{"ADenies": {`violation[{"msg": "no"}] { true }`, policy.Deny}, "BNever": {never, policy.Deny}, "CNever": {never, policy.Warn}, "DNever": {never, policy.DryRun}},
			messages: []string{"no"}, cutOff: []string{"BNever", "CNever"},
		},
		"DeniesFirst": {
			reason:   "what denies comes before what warns, whatever it is called",
			all:      rules{"ANever": {never, policy.Warn}, "BNever": {never, policy.DryRun}, "ZDenies": {`violation[{"msg": "no"}] { true }`, policy.Deny}},
			messages: []string{"no"}, cutOff: []string{"ANever"},
		},
		"Inside": {
			reason:   "a violation counts while its policy goes on",
			all:      rules{"ADenies": {`violation[{"msg": "no"}] { true }` + "\n" + never, policy.Deny}, "BNever": {never, policy.Deny}},
			messages: []string{"no"}, cutOff: []string{"ADenies", "BNever"},
		},
	}
	for name, newEngine := range evaluators {
		for what, tc := range cases {
			t.Run(name+what, func(t *testing.T) {
				e := engineOf(t, newEngine, tc.all)
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				r := padded(pod(1), patience)
				start := time.Now()
				r.AnswerBy = start.Add(answerBy)
				got := e.Review(ctx, r)
				if took := time.Since(start); took < answerBy || took > limit/4 {
					t.Errorf("%s: it took %v, want %v", tc.reason, took, answerBy)
				}
				var messages []string
				for _, v := range got.Violations {
					messages = append(messages, v.Message)
				}
				if !slices.Equal(messages, tc.messages) || !slices.Equal(kindsOf(got.CutOff), tc.cutOff) || len(got.Faults) > 0 {
					t.Errorf("%s: got %q, cut off %q, faults %v, want %q, cut off %q", tc.reason, messages, kindsOf(got.CutOff), got.Faults, tc.messages, tc.cutOff)
				}
				if d := policy.Decide(got); d.Allowed {
					t.Errorf("%s: it is allowed", tc.reason)
				}
			})
		}
	}
}

// TestNoDenialTakesItsTime: where nothing denies, all of the time is for finding
// what does, and what was not judged is a fault.
func TestNoDenialTakesItsTime(t *testing.T) {
	never := "violation[{\"msg\": \"never\"}] {" + endless + "}\n"
	for name, tc := range map[string]struct {
		all      rules
		messages int
	}{
		"Nothing":      {rules{"ANever": {never, policy.Deny}, "BOne": {`violation[{"msg": "no"}] { false }`, policy.Deny}}, 0},
		"Warning":      {rules{"ANever": {never, policy.Deny}, "BOne": {`violation[{"msg": "no"}] { true }`, policy.Warn}}, 1},
		"PartOfWarned": {rules{"ANever": {`violation[{"msg": "no"}] { true }` + "\n" + never, policy.Warn}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := engineOf(t, engine.New, tc.all)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			r := padded(pod(1), patience)
			r.AnswerBy = time.Now().Add(-time.Second)
			got := e.Review(ctx, r)
			if len(got.Violations) != tc.messages || len(got.CutOff) > 0 || len(got.Faults) != 1 || got.Faults[0].Cause != policy.CauseTimeout {
				t.Errorf("got %+v, want %d violations and that the slow policy timed out", got, tc.messages)
			}
		})
	}
}

// TestLateDenial: the time of a constraint ends before the review is to be
// answered. What it found by then denies, and is no fault.
func TestLateDenial(t *testing.T) {
	e := engineOf(t, engine.New, rules{"ADenies": {`violation[{"msg": "no"}] { true }` + "\nviolation[{\"msg\": \"never\"}] {" + endless + "}\n", policy.Deny}})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	r := padded(pod(1), patience)
	r.AnswerBy = time.Now().Add(time.Hour)
	got := e.Review(ctx, r)
	if len(got.Violations) != 1 || len(got.Faults) > 0 || len(got.CutOff) != 1 || len(got.More) != 1 || !got.More[0].AtLeast {
		t.Errorf("got %+v, want the violation, and that there may be more", got)
	}
}

// TestLimitKeepsViolations: a policy that fails on an object has still found what it
// has, so that failing is no way past it where a fault does not deny.
func TestLimitKeepsViolations(t *testing.T) {
	e := engineOf(t, engine.New, rules{"Fails": {everyContainer + "\nviolation[{\"msg\": \"never\"}] { n := numbers.range(1, 3000); count([1 | x := n[_]; y := n[_]; x + y < 0]) == 1 }", policy.Deny}})
	r := padded(pod(3), 4<<10)
	if got := e.Review(t.Context(), r); len(got.Violations) != 0 || len(got.Faults) != 1 {
		t.Errorf("got %+v, want the fault alone: counts of audit are whole, or said not to be", got)
	}
	r.AnswerBy = time.Now().Add(time.Hour)
	got := e.Review(t.Context(), r)
	if len(got.Violations) == 0 || len(got.Faults) != 1 || got.Faults[0].Cause != policy.CauseInput {
		t.Errorf("got %+v, want violations beside the fault", got)
	}
}

// TestFaultDoesNotSettle: what a policy gave before it failed is no denial where its
// faults deny nothing, and the others are judged.
func TestFaultDoesNotSettle(t *testing.T) {
	for name, newEngine := range evaluators {
		t.Run(name, func(t *testing.T) {
			e := engineOf(t, newEngine, rules{
				"AFails":  {`violation[{"text": "no msg"}] { true }`, policy.DryRun},
				"BDenies": {`violation[{"msg": "no"}] { true }`, policy.Deny},
			})
			c := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "AFails",
				"metadata": map[string]any{"name": "afails", "annotations": map[string]any{engine.AnnotationOnFault: "allow"}},
			}}
			if err := e.AddConstraint(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			r := pod(1)
			r.AnswerBy = time.Now().Add(-time.Second)
			got := e.Review(t.Context(), r)
			if len(got.Violations) != 1 || got.Violations[0].Message != "no" || len(got.Faults) != 1 || got.Faults[0].Cause != policy.CauseInput {
				t.Errorf("got %+v, want the fault, and the violation of the other", got)
			}
		})
	}
}

// TestDenying: where an object is judged by a constraint that denies, as its match
// block, its actions and its annotation have it.
func TestDenying(t *testing.T) {
	for name, tc := range map[string]struct {
		spec        map[string]any
		annotations map[string]any
		want        bool
	}{
		"Default":     {want: true},
		"Kind":        {spec: match("kinds", []any{map[string]any{"apiGroups": []any{""}, "kinds": []any{"Pod"}}}), want: true},
		"OtherKind":   {spec: match("kinds", []any{map[string]any{"apiGroups": []any{"apps"}, "kinds": []any{"Pod"}}})},
		"Namespace":   {spec: match("namespaces", []any{"team-*"}), want: true},
		"Elsewhere":   {spec: match("excludedNamespaces", []any{"team-t"})},
		"Scope":       {spec: match("scope", "Cluster")},
		"Unknown":     {spec: match("namespaceSelector", map[string]any{"matchLabels": map[string]any{"a": "b"}})},
		"Warns":       {spec: map[string]any{"enforcementAction": "warn"}},
		"Scoped":      {spec: scoped("deny", "validation.gatekeeper.sh"), want: true},
		"ScopedAudit": {spec: scoped("deny", "audit.gatekeeper.sh")},
		"OnFault":     {annotations: map[string]any{engine.AnnotationOnFault: "allow"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := engineOf(t, engine.New, rules{"Other": {`violation[{"msg": "no"}] { true }`, policy.DryRun}, "Big": {`violation[{"msg": "no"}] { true }`, policy.DryRun}})
			c := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "Big", "metadata": map[string]any{"name": "big", "annotations": tc.annotations},
			}}
			if tc.spec != nil {
				c.Object["spec"] = tc.spec
			}
			if err := e.AddConstraint(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			r := pod(1)
			r.Namespace = "team-t"
			got, ok := e.Denying(r)
			if ok != tc.want || ok && got.Name != "big" {
				t.Errorf("got %v, %t, want %t", got, ok, tc.want)
			}
		})
	}
}

func match(key string, value any) map[string]any {
	return map[string]any{"match": map[string]any{key: value}}
}

func scoped(action, point string) map[string]any {
	return map[string]any{"enforcementAction": "scoped", "scopedEnforcementActions": []any{
		map[string]any{"action": action, "enforcementPoints": []any{map[string]any{"name": point}}},
	}}
}
