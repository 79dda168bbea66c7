package intercept

import (
	"maps"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// Equal tells whether two lists of rules say the same, whatever their order
// and however they are split. An unset scope is the default one, "*". That a
// wildcard may cover what another rule names is not considered.
func Equal(a, b []admissionregistrationv1.RuleWithOperations) bool {
	return maps.Equal(expand(a), expand(b))
}

// clause is what a rule says of one group, version, resource and scope.
type clause struct {
	group, version, resource string
	scope                    admissionregistrationv1.ScopeType
}

func expand(rules []admissionregistrationv1.RuleWithOperations) map[clause]operations {
	out := map[clause]operations{}
	for _, r := range rules {
		var ops operations
		for _, name := range r.Operations {
			ops |= parse(name)
		}
		for _, c := range clauses(r.Rule) {
			out[c] |= ops
		}
	}
	return out
}

func clauses(r admissionregistrationv1.Rule) []clause {
	scope := admissionregistrationv1.AllScopes
	if r.Scope != nil {
		scope = *r.Scope
	}
	var out []clause
	for _, group := range r.APIGroups {
		for _, version := range r.APIVersions {
			for _, name := range r.Resources {
				out = append(out, clause{group, version, name, scope})
			}
		}
	}
	return out
}
