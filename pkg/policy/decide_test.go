package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/policy"
)

func constraint(name string, a policy.Action, scoped ...policy.Action) policy.Constraint {
	return policy.Constraint{Group: "constraints.gatekeeper.sh", Version: "v1beta1", Kind: "K", Name: name, Action: a, ScopedActions: scoped}
}

func tolerant(c policy.Constraint) policy.Constraint {
	c.OnFault = policy.OnFaultAllow
	return c
}

func violation(c policy.Constraint, msg string) policy.Violation {
	return policy.Violation{Constraint: c, Message: msg}
}

func fault(c policy.Constraint, cause policy.FaultCause, text string) policy.Fault {
	return policy.Fault{Constraint: c, Cause: cause, Err: errors.New(text)}
}

func TestDecideViolations(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     []policy.Violation
		want   policy.Decision
	}{
		"Nothing": {
			reason: "what nobody objects to is allowed",
			want:   policy.Decision{Allowed: true},
		},
		"Deny": {
			reason: "a violation of a deny constraint denies",
			in:     []policy.Violation{violation(constraint("a", policy.Deny), "no")},
			want:   policy.Decision{Message: "[a] no"},
		},
		"DenyManyInOrder": {
			reason: "the message has a line for each violation, in the order given",
			in: []policy.Violation{
				violation(constraint("b", policy.Deny), "first"),
				violation(constraint("a", policy.Deny), "second\nof two lines"),
				violation(constraint("b", policy.Deny), ""),
			},
			want: policy.Decision{Message: "[b] first\n[a] second\nof two lines\n[b] "},
		},
		"Warn": {
			reason: "a warning does not deny",
			in:     []policy.Violation{violation(constraint("a", policy.Warn), "hm")},
			want:   policy.Decision{Allowed: true, Warnings: []string{"[a] hm"}},
		},
		"DryRun": {
			reason: "dryrun has no effect on admission",
			in:     []policy.Violation{violation(constraint("a", policy.DryRun), "hm")},
			want:   policy.Decision{Allowed: true},
		},
		"Unknown": {
			reason: "an action nobody knows has no effect, as in Gatekeeper",
			in:     []policy.Violation{violation(constraint("a", "explode"), "hm"), violation(constraint("b", ""), "hm")},
			want:   policy.Decision{Allowed: true},
		},
		"DenyAndWarnAndDryRun": {
			reason: "warnings come with a denial",
			in: []policy.Violation{
				violation(constraint("a", policy.Deny), "no"),
				violation(constraint("b", policy.DryRun), "nothing"),
				violation(constraint("c", policy.Warn), "hm"),
			},
			want: policy.Decision{Message: "[a] no", Warnings: []string{"[c] hm"}},
		},
		"SeveralLines": {
			reason: "a denial has lines, a warning is one: it becomes an HTTP header",
			in: []policy.Violation{
				violation(constraint("a", policy.Deny), "one\ntwo"),
				violation(constraint("b", policy.Warn), "one\n\ttwo\r\n"),
			},
			want: policy.Decision{Message: "[a] one\ntwo", Warnings: []string{"[b] one / two"}},
		},
		"ScopedDenyAndWarn": {
			reason: "a scoped constraint may ask for both at one point",
			in:     []policy.Violation{violation(constraint("a", policy.Scoped, policy.Deny, policy.Warn), "no")},
			want:   policy.Decision{Message: "[a] no", Warnings: []string{"[a] no"}},
		},
		"ScopedElsewhere": {
			reason: "a scoped constraint without an action at this point has no effect",
			in:     []policy.Violation{violation(constraint("a", policy.Scoped), "no")},
			want:   policy.Decision{Allowed: true},
		},
		"ScopedActionsWithoutScoped": {
			reason: "scoped actions count only under the action scoped",
			in:     []policy.Violation{violation(constraint("a", policy.DryRun, policy.Deny), "no")},
			want:   policy.Decision{Allowed: true},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := policy.Decide(policy.Result{Violations: tc.in, Evaluated: len(tc.in)})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestDecideFaults goes through every cause, action and OnFault.
func TestDecideFaults(t *testing.T) {
	const (
		silent = iota
		denied
		notJudgedInput
		notJudged
	)
	effects := map[policy.FaultCause]struct{ deny, denyTolerant, warn int }{
		policy.CauseInput:    {denied, notJudgedInput, notJudgedInput},
		policy.CausePolicy:   {notJudgedInput, notJudgedInput, notJudgedInput},
		policy.CauseTimeout:  {notJudged, notJudged, notJudged},
		policy.CauseMatch:    {notJudged, notJudged, notJudged},
		policy.CauseInternal: {notJudged, notJudged, notJudged},
	}
	want := map[int]policy.Decision{
		silent:         {Allowed: true},
		denied:         {Message: "[a] the policy failed on this object: broken"},
		notJudgedInput: {Allowed: true, Warnings: []string{"[a] not judged, the policy failed on this object: broken"}},
		notJudged:      {Allowed: true, Warnings: []string{"[a] not judged: broken"}},
	}
	for cause, e := range effects {
		for name, tc := range map[string]struct {
			constraint policy.Constraint
			effect     int
		}{
			"Deny":               {constraint("a", policy.Deny), e.deny},
			"DenyTolerant":       {tolerant(constraint("a", policy.Deny)), e.denyTolerant},
			"ScopedDeny":         {constraint("a", policy.Scoped, policy.Deny), e.deny},
			"ScopedDenyTolerant": {tolerant(constraint("a", policy.Scoped, policy.Deny)), e.denyTolerant},
			"ScopedBoth":         {constraint("a", policy.Scoped, policy.Deny, policy.Warn), e.deny},
			"Warn":               {constraint("a", policy.Warn), e.warn},
			"ScopedWarn":         {constraint("a", policy.Scoped, policy.Warn), e.warn},
			"DryRun":             {constraint("a", policy.DryRun), silent},
			"ScopedDryRun":       {constraint("a", policy.Scoped, policy.DryRun), silent},
			"ScopedElsewhere":    {constraint("a", policy.Scoped), silent},
			"Unknown":            {constraint("a", "explode"), silent},
		} {
			t.Run(string(cause)+"/"+name, func(t *testing.T) {
				r := policy.Result{Faults: []policy.Fault{fault(tc.constraint, cause, "broken")}, Evaluated: 1}
				if diff := cmp.Diff(want[tc.effect], policy.Decide(r)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestDecideNothingJudged(t *testing.T) {
	deny, warn, dryRun := constraint("d", policy.Deny), constraint("w", policy.Warn), constraint("n", policy.DryRun)
	cases := map[string]struct {
		reason    string
		faults    []policy.Fault
		evaluated int
		want      policy.Decision // Err stands for "an error"
		fails     []string        // what the error names
	}{
		"Timeouts": {
			reason: "nothing was judged, so there is no answer",
			faults: []policy.Fault{fault(deny, policy.CauseTimeout, "late"), fault(warn, policy.CauseMatch, "lost")},
			fails:  []string{"no constraint could be judged", "constraint K/d: late", "constraint K/w: lost"},
		},
		"WholeReview": {
			reason: "a fault of the review as a whole names no constraint and is never silent",
			faults: []policy.Fault{fault(policy.Constraint{}, policy.CauseInternal, "engine gone")},
			fails:  []string{"no constraint could be judged", "engine gone"},
		},
		"WholeReviewBesideVerdicts": {
			reason:    "with verdicts it is a warning without a constraint's name",
			faults:    []policy.Fault{fault(policy.Constraint{}, policy.CauseInternal, "engine gone")},
			evaluated: 1,
			want:      policy.Decision{Allowed: true, Warnings: []string{"not judged: engine gone"}},
		},
		"OnlySilent": {
			reason: "constraints without effect leave nothing to decide",
			faults: []policy.Fault{fault(dryRun, policy.CauseTimeout, "late")},
			want:   policy.Decision{Allowed: true},
		},
		"InputDenies": {
			reason: "an object that breaks a policy is denied, though nothing else was judged",
			faults: []policy.Fault{fault(deny, policy.CauseInput, "broken"), fault(warn, policy.CauseTimeout, "late")},
			want: policy.Decision{
				Message:  "[d] the policy failed on this object: broken",
				Warnings: []string{"[w] not judged: late"},
			},
		},
		"InputTolerated": {
			reason: "the input's own fault is no failure of ours",
			faults: []policy.Fault{fault(tolerant(deny), policy.CauseInput, "broken")},
			want:   policy.Decision{Allowed: true, Warnings: []string{"[d] not judged, the policy failed on this object: broken"}},
		},
		"OneVerdict": {
			reason:    "one verdict is an answer",
			faults:    []policy.Fault{fault(deny, policy.CauseTimeout, "late")},
			evaluated: 1,
			want:      policy.Decision{Allowed: true, Warnings: []string{"[d] not judged: late"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := policy.Decide(policy.Result{Faults: tc.faults, Evaluated: tc.evaluated})
			if tc.fails != nil {
				checkUndecided(t, got, tc.faults, tc.fails)
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func checkUndecided(t *testing.T, got policy.Decision, faults []policy.Fault, names []string) {
	t.Helper()
	if got.Allowed || got.Message != "" || got.Warnings != nil {
		t.Errorf("got %+v beside the error, want nothing", got)
	}
	if !errors.Is(got.Err, policy.ErrNothingJudged) {
		t.Fatalf("got error %v, want ErrNothingJudged", got.Err)
	}
	for _, f := range faults {
		if !errors.Is(got.Err, f.Err) {
			t.Errorf("error %v does not wrap %v", got.Err, f.Err)
		}
	}
	for _, name := range names {
		if !strings.Contains(got.Err.Error(), name) {
			t.Errorf("error %q does not say %q", got.Err, name)
		}
	}
}

// TestDecideIsPure decides twice and compares the argument with a copy.
func TestDecideIsPure(t *testing.T) {
	r := policy.Result{
		Violations: []policy.Violation{violation(constraint("a", policy.Deny), "no"), violation(constraint("b", policy.Warn), "hm")},
		Faults:     []policy.Fault{{Constraint: constraint("c", policy.Deny), Cause: policy.CauseInput}},
		Evaluated:  2,
	}
	before := policy.Result{Violations: slices.Clone(r.Violations), Faults: slices.Clone(r.Faults), Evaluated: 2}
	first, second := policy.Decide(r), policy.Decide(r)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("second decision differs (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(before, r); diff != "" {
		t.Errorf("the result was modified (-before +after):\n%s", diff)
	}
}
