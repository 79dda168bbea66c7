package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// TestSlowPolicy judges by a policy that is never done and by one that comes
// after it: the first is a fault, and the second is heard.
func TestSlowPolicy(t *testing.T) {
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	for kind, body := range map[string]string{
		// It comes to its limits, too, but later than its share of the time is over.
		"ASlow": `xs := numbers.range(1, 3000)
			some i, j in xs
			sprintf("%v%v", [regex.replace(sprintf("%v", [xs]), "[0-9]", "x"), [i, j]]) == ""
			msg := "slow"`,
		"BQuick": `msg := "quick"`,
	} {
		template := fmt.Sprintf(`package p
import future.keywords.in
violation[{"msg": msg}] {
	%s
}`, body)
		parsed, err := engine.ParseTemplate(&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": map[string]any{"name": strings.ToLower(kind)},
			"spec": map[string]any{
				"crd":     map[string]any{"spec": map[string]any{"names": map[string]any{"kind": kind}}},
				"targets": []any{map[string]any{"target": engine.TargetName, "rego": template}},
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddTemplate(t.Context(), parsed); err != nil {
			t.Fatal(err)
		}
		c := &unstructured.Unstructured{}
		c.SetAPIVersion("constraints.gatekeeper.sh/v1beta1")
		c.SetKind(kind)
		c.SetName("one")
		if err := e.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	const limit = 2 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), limit/20)
	defer cancel()
	start := time.Now()
	got := e.Review(ctx, &policy.Review{
		Kind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Operation: policy.Create, Point: policy.PointWebhook,
		Object: map[string]any{},
	})
	if len(got.Violations) != 1 || got.Violations[0].Message != "quick" {
		t.Errorf("got violations %+v, want that of the quick policy", got.Violations)
	}
	if len(got.Faults) != 1 || got.Faults[0].Cause != policy.CauseTimeout {
		t.Errorf("got faults %+v, want that the slow policy timed out", got.Faults)
	}
	if took := time.Since(start); took > limit {
		t.Errorf("it took %v, want less than %v", took, limit)
	}
}

// TestExceededBefore: an update is not let through for an object that was as costly
// before where the constraint did not match that.
func TestExceededBefore(t *testing.T) {
	e := engineOf(t, engine.New, rules{"Costly": {`violation[{"msg": "no"}] { n := numbers.range(1, 3000); count({1 | n[_]; n[_]; n[_]}) == 7 }`, policy.Deny}})
	c := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"match": map[string]any{"labelSelector": map[string]any{"matchLabels": map[string]any{"app": "pay"}}}}}}
	c.SetAPIVersion("constraints.gatekeeper.sh/v1beta1")
	c.SetKind("Costly")
	c.SetName("costly")
	if err := e.AddConstraint(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	labelled := func(app string) map[string]any {
		return map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": app}}, "text": strings.Repeat("t", 4<<10)}
	}
	for name, tc := range map[string]struct {
		old  string
		want policy.FaultCause
	}{"Matched": {"pay", policy.CausePolicy}, "NotMatched": {"not", policy.CauseInput}} {
		got := e.Review(t.Context(), &policy.Review{
			Kind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Operation: policy.Update, Point: policy.PointWebhook,
			Object: labelled("pay"), OldObject: labelled(tc.old),
		})
		if len(got.Faults) != 1 || got.Faults[0].Cause != tc.want {
			t.Errorf("%s before: got %+v, want a fault by %s", name, got.Faults, tc.want)
		}
	}
}

// TestTogether: an object on which many policies take long, none of them too long, is
// no way past those for which no time is left. Only what the object takes counts.
func TestTogether(t *testing.T) {
	const constraints = 150
	costly := func(reads string) *engine.Engine {
		all := rules{}
		for i := range constraints {
			all[fmt.Sprintf("Costly%03d", i)] = struct {
				rego   string
				action policy.Action
			}{fmt.Sprintf(`violation[{"msg": "no"}] { n := numbers.range(1, 20000); %s count([1 | n[_]; contains("%s", "%d")]) == 1 }`, reads, strings.Repeat("t", 4<<10), i), policy.Deny}
		}
		return engineOf(t, engine.New, all)
	}
	plain, inventory := costly(""), costly("not data.inventory.cluster;")
	for name, tc := range map[string]struct {
		engine    *engine.Engine
		operation policy.Operation
		size      int
		time      time.Duration
		answers   bool
		want      policy.FaultCause
	}{
		"Large":     {plain, policy.Create, 4 << 10, 500 * time.Millisecond, true, policy.CauseInput},
		"Update":    {plain, policy.Update, 4 << 10, 500 * time.Millisecond, true, policy.CauseInput},
		"Small":     {plain, policy.Create, 1 << 10, 500 * time.Millisecond, true, policy.CauseTimeout},
		"Delete":    {plain, policy.Delete, 4 << 10, 500 * time.Millisecond, true, policy.CauseTimeout},
		"Inventory": {inventory, policy.Create, 4 << 10, 500 * time.Millisecond, true, policy.CauseTimeout},
		"Waited":    {plain, policy.Create, 4 << 10, 10 * time.Millisecond, true, policy.CauseTimeout},
		"NotAsked":  {plain, policy.Create, 4 << 10, 500 * time.Millisecond, false, policy.CauseTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), tc.time)
			defer cancel()
			r := &policy.Review{
				Kind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Operation: tc.operation, Point: policy.PointWebhook,
				Object: map[string]any{"text": strings.Repeat("t", tc.size)}, OldObject: map[string]any{},
			}
			if tc.answers {
				r.AnswerBy = time.Now().Add(tc.time / 2)
			}
			got := tc.engine.Review(ctx, r)
			if len(got.Faults) == 0 {
				t.Fatalf("all %d constraints were judged in time, and none should", got.Evaluated)
			}
			for _, f := range got.Faults {
				if f.Cause != tc.want {
					t.Fatalf("got %v (%s), want a fault by %s", f, f.Cause, tc.want)
				}
			}
			d := policy.Decide(got)
			if denied := !d.Allowed && d.Err == nil; denied != (tc.want == policy.CauseInput) {
				t.Errorf("denied: %t", denied)
			}
		})
	}
}
