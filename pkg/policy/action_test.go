package policy_test

import (
	"strings"
	"testing"

	"github.com/fusegate/fusegate/pkg/policy"
)

func TestParseAction(t *testing.T) {
	for _, a := range append(policy.Actions(), policy.Scoped) {
		if got, err := policy.ParseAction(string(a)); got != a || err != nil {
			t.Errorf("%s: got %q, %v", a, got, err)
		}
		_, err := policy.ParseScopedAction(string(a))
		if (err != nil) != (a == policy.Scoped) {
			t.Errorf("%s among scoped actions: got error %v", a, err)
		}
	}
	for _, unknown := range []string{"", "Deny", "dney"} {
		if _, err := policy.ParseAction(unknown); err == nil || !strings.HasSuffix(err.Error(), "is not supported: use one of deny, warn, dryrun, scoped") {
			t.Errorf("%q: got error %v, want what it can be", unknown, err)
		}
	}
}

func TestActions(t *testing.T) {
	scoped := func(a ...policy.Action) policy.Constraint {
		return policy.Constraint{Action: policy.Scoped, ScopedActions: a}
	}
	cases := map[string]struct {
		constraint policy.Constraint
		strictest  policy.Action
		names      string
		acts, asks bool
	}{
		"deny":    {policy.Constraint{Action: policy.Deny}, policy.Deny, "deny", true, true},
		"warn":    {policy.Constraint{Action: policy.Warn}, policy.Warn, "warn", true, true},
		"dryrun":  {policy.Constraint{Action: policy.DryRun}, policy.DryRun, "dryrun", false, true},
		"several": {scoped(policy.DryRun, policy.Warn), policy.Warn, "dryrun,warn", true, true},
		"records": {scoped(policy.DryRun), policy.DryRun, "dryrun", false, true},
		"nothing": {scoped(), policy.Scoped, "", false, false},
		"unknown": {policy.Constraint{Action: "block"}, "block", "block", false, false},
	}
	for name, tc := range cases {
		c := tc.constraint
		if c.Strictest() != tc.strictest || c.ActionNames() != tc.names || c.ActsOnRequests() != tc.acts || c.Asks() != tc.asks {
			t.Errorf("%s: got strictest %q, names %q, acts %v, asks %v", name, c.Strictest(), c.ActionNames(), c.ActsOnRequests(), c.Asks())
		}
	}
}
