package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/policy"
)

func TestResultOf(t *testing.T) {
	scoped := policy.Constraint{Kind: "Wants", Name: "owner", Action: policy.Scoped, ScopedActions: []policy.Action{policy.Deny, policy.Warn}}
	plain := func(change func(map[string]any)) map[string]any {
		out := map[string]any{
			"source": "fusegate", "policy": "Wants/owner", "rule": "Wants", "result": "fail", "scored": true, "message": "m",
			"properties": map[string]any{"enforcementAction": "deny"},
		}
		change(out)
		return out
	}
	deny := policy.Constraint{Kind: "Wants", Name: "owner", Action: policy.Deny}
	for name, tc := range map[string]struct {
		reason      string
		finding     audit.Finding
		description Description
		want        map[string]any
	}{
		"plain": {
			reason: "a violation is a failure", finding: audit.Finding{Constraint: deny, Message: "m"},
			want: plain(func(map[string]any) {}),
		},
		"scoped": {
			reason: "the actions that it asks for at audit", finding: audit.Finding{Constraint: scoped, Message: "m"},
			want: plain(func(r map[string]any) { r["properties"] = map[string]any{"enforcementAction": "deny,warn"} }),
		},
		"fault": {
			reason: "a policy that fails says nothing of the object", finding: audit.Finding{Constraint: deny, Message: "m", Fault: true},
			want: plain(func(r map[string]any) { r["result"], r["scored"] = "error", false }),
		},
		"described": {
			reason: "as the annotations say", finding: audit.Finding{Constraint: deny, Message: "m"}, description: Description{Category: "c", Severity: "low"},
			want: plain(func(r map[string]any) { r["category"], r["severity"] = "c", "low" }),
		},
		"unknown severity": {
			reason: "the API takes five words, and would refuse the report", finding: audit.Finding{Constraint: deny, Message: "m"}, description: Description{Severity: "dire"},
			want: plain(func(map[string]any) {}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, resultOf(tc.finding, tc.description)); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestBound keeps a report far below what etcd takes, and has it say so.
func TestBound(t *testing.T) {
	o := &audit.Object{Kind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Namespace: "n", Name: "o", UID: "u"}
	var results []map[string]any
	for i := range maxResults + 7 {
		f := audit.Finding{Constraint: policy.Constraint{Kind: "Wants", Name: fmt.Sprint(i), Action: policy.Deny}, Message: strings.Repeat("m", 256)}
		results = append(results, resultOf(f, Description{}))
	}
	u := apis[OpenReports].build(o, results)
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if got := len(resultsIn(u)); got != maxResults || len(text) > 500_000 {
		t.Errorf("got %d results in %d bytes, want %d", got, len(text), maxResults)
	}
	if got := u.GetAnnotations()[omittedAnnotation]; got != "7" {
		t.Errorf("got %q left out, want 7", got)
	}
	if got := u.Object["summary"].(map[string]any)["fail"]; got != int64(maxResults+7) {
		t.Errorf("the summary counts %v", got)
	}
}

func TestNameFor(t *testing.T) {
	for _, uid := range []types.UID{"2f1c0e8e-6f0c-4e0f-9f0e-1c1f0e8e6f0c", "a/b", types.UID(strings.Repeat("x", 300)), "UPPER"} {
		if problems := validation.IsDNS1123Subdomain(nameFor(uid)); len(problems) > 0 {
			t.Errorf("the name for %q: %v", uid, problems)
		}
	}
}
