package controller

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/status"
)

func TestFaults(t *testing.T) {
	clock := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := newFaults(func() time.Time { return clock })
	var asked []string
	f.deliver(func(k key, delay time.Duration) { asked = append(asked, fmt.Sprint(k, " in ", delay)) })
	review := &policy.Review{
		Kind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Operation: policy.Update,
		Namespace: "team-a", Name: "web",
	}
	review.UserInfo.Username = "alice"
	fault := policy.Fault{
		Constraint: policy.Constraint{Kind: "K", Name: "n"}, Cause: policy.CauseInput,
		Err: errors.New("the password is xyzzy"), Brief: "rego:3:1: eval_conflict_error",
	}
	k := key{kind: "K", name: "n"}
	for range 3 {
		clock = clock.Add(time.Second)
		f.record(review, fault)
	}
	if diff := cmp.Diff([]string{"K/n in 10s"}, asked); diff != "" {
		t.Errorf("reports asked for (-want +got):\n%s", diff)
	}
	want := status.Faults{Count: 3, Last: status.Fault{
		Time: clock, Cause: "Input", Message: "rego:3:1: eval_conflict_error",
		Operation: "UPDATE", Kind: "Deployment.apps", Namespace: "team-a", Name: "web", User: "alice",
	}}
	if diff := cmp.Diff(want, f.take(k)); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	f.record(review, fault)
	if len(asked) != 2 {
		t.Errorf("a fault after the report asked for %d reports, want another", len(asked)-1)
	}
	f.drop(k)
	if got := f.take(k); got.Count != 0 {
		t.Errorf("after the constraint went: got %+v", got)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	f := newFaults(time.Now)
	for n := range maxFaulty + 10 {
		f.record(&policy.Review{}, policy.Fault{Constraint: policy.Constraint{Kind: "K", Name: fmt.Sprint(n)}})
	}
	if got := len(f.byKey); got != maxFaulty {
		t.Errorf("%d constraints remembered, want %d", got, maxFaulty)
	}
}
