package webhook_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/webhook"
)

func constraint(name string, a policy.Action, scoped ...policy.Action) policy.Constraint {
	return policy.Constraint{Group: "constraints.gatekeeper.sh", Version: "v1beta1", Kind: "K", Name: name, Action: a, ScopedActions: scoped}
}

func violation(c policy.Constraint, msg string) policy.Violation {
	return policy.Violation{Constraint: c, Message: msg, Details: map[string]any{}}
}

// TestAnswers compares byte by byte: others parse these answers too.
func TestAnswers(t *testing.T) {
	const (
		head = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002",`
		tail = `}}`
	)
	cases := map[string]struct {
		reason   string
		result   policy.Result
		want     string
		decision string
	}{
		"Allow": {
			reason: "allowed with 200", result: policy.Result{Evaluated: 1},
			want: `"allowed":true,"status":{"metadata":{},"code":200}`, decision: "allow",
		},
		"Deny": {
			reason: "denied with 403, Forbidden and a line for each violation",
			result: policy.Result{Evaluated: 2, Violations: []policy.Violation{
				violation(constraint("a", policy.Deny), `no "x" < y`), violation(constraint("b", policy.Deny), "nor this"),
			}},
			want:     `"allowed":false,"status":{"metadata":{},"message":"[a] no \"x\" \u003c y\n[b] nor this","reason":"Forbidden","code":403}`,
			decision: "deny",
		},
		"Warn": {
			reason: "allowed with 299 and warnings",
			result: policy.Result{Evaluated: 2, Violations: []policy.Violation{
				violation(constraint("a", policy.Warn), "one"), violation(constraint("b", policy.Warn), "two"),
			}},
			want:     `"allowed":true,"status":{"metadata":{},"code":299},"warnings":["[a] one","[b] two"]`,
			decision: "warn",
		},
		"Unprintable": {
			reason: "what nobody sees is shown, and a warning is one line: the API server drops others",
			result: policy.Result{Evaluated: 2, Violations: []policy.Violation{
				violation(constraint("a", policy.Deny), "one\n\u009b31m\xff"), violation(constraint("b", policy.Warn), "one\n\ttwo\u202e\x7f\r\n"),
			}},
			want:     `"allowed":false,"status":{"metadata":{},"message":"[a] one\n\\u009b31m` + "\ufffd" + `","reason":"Forbidden","code":403},"warnings":["[b] one / two\\u202e\\u007f"]`,
			decision: "deny",
		},
		"DenyAndWarn": {
			reason: "denied with 403, and the warnings beside",
			result: policy.Result{Evaluated: 2, Violations: []policy.Violation{
				violation(constraint("a", policy.Deny), "no"), violation(constraint("b", policy.Warn), "hm"),
			}},
			want:     `"allowed":false,"status":{"metadata":{},"message":"[a] no","reason":"Forbidden","code":403},"warnings":["[b] hm"]`,
			decision: "deny",
		},
		"ScopedBoth": {
			reason: "one constraint may deny and warn",
			result: policy.Result{Evaluated: 1, Violations: []policy.Violation{
				violation(constraint("a", policy.Scoped, policy.Deny, policy.Warn), "no"),
			}},
			want:     `"allowed":false,"status":{"metadata":{},"message":"[a] no","reason":"Forbidden","code":403},"warnings":["[a] no"]`,
			decision: "deny",
		},
		"DryRun": {
			reason: "dryrun is not seen",
			result: policy.Result{Evaluated: 1, Violations: []policy.Violation{violation(constraint("a", policy.DryRun), "no")}},
			want:   `"allowed":true,"status":{"metadata":{},"code":200}`, decision: "allow",
		},
		"InputFault": {
			reason: "an object that breaks a policy is denied by it",
			result: policy.Result{Faults: []policy.Fault{{Constraint: constraint("a", policy.Deny), Cause: policy.CauseInput, Err: errors.New("broken")}}},
			want:   `"allowed":false,"status":{"metadata":{},"message":"[a] the policy failed on this object: broken","reason":"Forbidden","code":403}`, decision: "deny",
		},
		"TimeoutFault": {
			reason: "a time-out is a warning while others were judged",
			result: policy.Result{Evaluated: 1, Faults: []policy.Fault{{Constraint: constraint("a", policy.Deny), Cause: policy.CauseTimeout, Err: errors.New("late")}}},
			want:   `"allowed":true,"status":{"metadata":{},"code":299},"warnings":["[a] not judged: late"]`, decision: "warn",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			h := newHandler(t, parts{reviewer: finds(tc.result), options: webhook.Options{Metrics: reg}})
			w := post(h, request(t, nil))
			if diff := cmp.Diff(head+tc.want+tail, w.Body.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("got %d %v, want 200 and JSON", w.Code, w.Header())
			}
			if n := counted(t, reg, "fusegate_admission_reviews_total", tc.decision); n != 1 {
				t.Errorf("counted %v reviews as %s, want 1", n, tc.decision)
			}
			for _, f := range tc.result.Faults {
				if n := counted(t, reg, "fusegate_admission_faults_total", string(f.Cause)); n != 1 {
					t.Errorf("counted %v faults of %s, want 1", n, f.Cause)
				}
			}
		})
	}
}

// TestMetricsTwice: a second handler on one registry is an error, no panic.
func TestMetricsTwice(t *testing.T) {
	reg := prometheus.NewRegistry()
	newHandler(t, parts{options: webhook.Options{Metrics: reg}})
	if _, err := webhook.New(zeroPerimeter, nil, nil, nil, webhook.Options{Metrics: reg}); err == nil {
		t.Error("got no error")
	}
}
