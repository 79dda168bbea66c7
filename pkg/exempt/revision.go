package exempt

import (
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// RevisionConditionName is the name of the matchCondition of the policy entry
// that lets canaries of one revision through and no others.
const RevisionConditionName = "canary-revision"

// RevisionCondition returns the condition. It holds for everything that is not
// a canary, so that it exempts nothing, and is free of errors on every request.
func RevisionCondition(revision string) admissionregistrationv1.MatchCondition {
	other, _ := not(canary).cel()
	return admissionregistrationv1.MatchCondition{
		Name: RevisionConditionName,
		Expression: other + " || object != null && has(object.spec) && has(" + revisionPath + ") && " +
			revisionPath + " == " + quote(revision),
	}
}

// CanaryRules are the rules by which an entry is sent canaries.
func CanaryRules() []admissionregistrationv1.RuleWithOperations {
	scope := admissionregistrationv1.ClusterScope
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{ownGroup}, APIVersions: []string{"*"}, Resources: []string{canaryResource}, Scope: &scope,
		},
	}}
}

// RevisionOf returns the revision that a matchCondition of RevisionCondition
// was made for.
func RevisionOf(c admissionregistrationv1.MatchCondition) (revision string, ok bool) {
	if c.Name != RevisionConditionName {
		return "", false
	}
	_, literal, _ := strings.Cut(c.Expression, revisionPath+" == ")
	revision, err := strconv.Unquote(literal)
	return revision, err == nil && c == RevisionCondition(revision)
}

const revisionPath = "object.spec.revision"
