package exempt_test

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
)

// TestOtherEntries are the same rows at the entries beside the policy entry.
func TestOtherEntries(t *testing.T) {
	policies := []string{"constrainttemplates.templates.gatekeeper.sh t", "k8srequiredlabels.constraints.gatekeeper.sh c"}
	statuses := []string{"constrainttemplates.templates.gatekeeper.sh/status t", "k8srequiredlabels.constraints.gatekeeper.sh/status c"}
	cases := map[string]struct {
		reason     string
		entry      exempt.Entry
		users      []authenticationv1.UserInfo
		operations []policy.Operation
		requests   []string
		want       bool
	}{
		"PoliciesByPeople": {
			reason: "templates and constraints are judged when they are written", entry: exempt.EngineEntry,
			users: tenants, operations: []policy.Operation{create, update}, requests: policies, want: true,
		},
		"PoliciesDeleted": {
			reason: "removing a policy is never judged", entry: exempt.EngineEntry,
			users: tenants, operations: []policy.Operation{remove}, requests: policies,
		},
		"PoliciesBySystem": {
			reason: "the same system users are outside", entry: exempt.EngineEntry,
			users: append(systemUsers, controllers...), operations: every, requests: policies,
		},
		"PolicyStatus": {
			reason: "a status is the engine's", entry: exempt.EngineEntry,
			users: everyone, operations: every, requests: statuses,
		},
		"EngineEntryElsewhere": {
			reason: "the engine's entry judges nothing else", entry: exempt.EngineEntry, users: everyone, operations: every,
			requests: append([]string{"canaries.fusegate.dev policy-1", "canaries.fusegate.dev path-1", "configs.config.gatekeeper.sh team-a/config"}, ordinaryKinds...),
		},
		"PathCanaries": {
			reason: "the probe entry answers canaries of the path", entry: exempt.ProbeEntry,
			users: []authenticationv1.UserInfo{own, alice}, operations: []policy.Operation{create}, requests: []string{"canaries.fusegate.dev path-1"}, want: true,
		},
		"ProbeEntryElsewhere": {
			reason: "the probe entry answers nothing else", entry: exempt.ProbeEntry, users: everyone, operations: every,
			requests: append([]string{"canaries.fusegate.dev policy-1", "canaries.fusegate.dev ", "canaries.example.com path-1"}, append(policies, ordinaryKinds...)...),
		},
		"UnknownEntry": {
			reason: "an entry that Fusegate does not have matches nothing", entry: "other.fusegate.dev",
			users: everyone, operations: every, requests: append(policies, ordinaryKinds...),
		},
	}
	p := mustNew(t, exempt.Options{})
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(p, tc.entry)
			for _, r := range requests(tc.users, tc.operations, tc.requests) {
				if got := verdict(t, p, s, tc.entry, r); got != tc.want {
					t.Errorf("%s: %s reaches %s: %v, want %v", tc.reason, describe(r), tc.entry, got, tc.want)
				}
			}
		})
	}
}

// TestJudge makes sure that Judge takes the entry that the request is for.
func TestJudge(t *testing.T) {
	cases := map[string]struct {
		reason     string
		review     *policy.Review
		want       bool
		wantReason string
	}{
		"Tenant":       {"a tenant's write is judged", request(create, alice, "pods team-a/web"), false, ""},
		"Template":     {"a template is judged by the engine's entry", request(create, alice, "constrainttemplates.templates.gatekeeper.sh t"), false, ""},
		"PathCanary":   {"a canary of the path is answered", request(create, own, "canaries.fusegate.dev path-1"), false, ""},
		"PolicyCanary": {"a canary of the policies is answered", request(create, own, "canaries.fusegate.dev policy-1"), false, ""},
		"OtherCanary": {
			"no entry intercepts other canaries", request(create, own, "canaries.fusegate.dev x"), true,
			`the engine's own "canaries.fusegate.dev" (not-policy-object)`,
		},
		"TemplateDeleted": {
			"removing a policy is never judged", request(remove, alice, "constrainttemplates.templates.gatekeeper.sh t"), true,
			`not a write of a policy: "constrainttemplates.templates.gatekeeper.sh" (only-policy-object)`,
		},
		"SystemUser": {
			"the reason names the user", request(create, apiserver, "clusterroles.rbac.authorization.k8s.io admin"), true,
			`system user "system:apiserver" (not-system-user)`,
		},
		"Namespace": {
			"the reason names the namespace", request(create, alice, "pods kube-system/p"), true,
			`namespace "kube-system" (not-system-namespace)`,
		},
		"NamespaceByNameOnly": {
			"a Namespace is known by its name where the review leaves its namespace out",
			&policy.Review{Resource: request(create, alice, "namespaces x").Resource, Name: "kube-public", Operation: create, UserInfo: alice}, true,
			`namespace "kube-public" (not-system-namespace)`,
		},
		"Subresource": {
			"the reason names the subresource", request(update, alice, "deployments.apps/status team-a/d"), true,
			`critical subresource "deployments.apps/status" (not-critical-subresource)`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			reason, got := exempt.Perimeter{}.Judge(tc.review)
			if got != tc.want || reason != tc.wantReason {
				t.Errorf("%s: Judge() = %q, %v, want %q, %v", tc.reason, reason, got, tc.wantReason, tc.want)
			}
		})
	}
}
