package intercept

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// FuseCondition is the name of the matchCondition by which the fuse disarms
// the entry: there with the expression "false" while the fuse is open.
const FuseCondition = "fuse-open"

// fuseExpression is what FuseCondition says while the fuse is open. A condition
// of that name which says anything else narrows the entry in disguise.
const fuseExpression = "false"

const fuseText = "the fuse is open"

func isFuse(c admissionregistrationv1.MatchCondition) bool {
	return c.Name == FuseCondition && strings.TrimSpace(c.Expression) == fuseExpression
}

// Cause says which part of a webhook entry keeps a request from it.
type Cause string

// The causes, in the order in which the API server looks.
const (
	// NeverSent means that the API server sends such an object to no webhook:
	// webhook configurations and admission policies, and what Server keeps.
	NeverSent Cause = "NeverSent"
	// NamespaceSelector means that it does not select the namespace.
	NamespaceSelector Cause = "NamespaceSelector"
	// ObjectSelector means that it selects neither the object nor the old one.
	ObjectSelector Cause = "ObjectSelector"
	// NoRule means that no rule matches.
	NoRule Cause = "NoRule"
	// FuseOpen means that the fuse is open.
	FuseOpen Cause = "FuseOpen"
	// ConditionFalse means that a matchCondition is false.
	ConditionFalse Cause = "ConditionFalse"
	// ConditionError means that a matchCondition cannot be evaluated: under
	// failurePolicy Ignore the webhook is skipped, under Fail the request is
	// refused without asking it.
	ConditionError Cause = "ConditionError"
	// Undecided means that what the API server would do cannot be told from
	// here: a condition asks the authorizer, or is written in a newer CEL than
	// this build knows, or there was no time left.
	Undecided Cause = "Undecided"
	// Added means that the field was added to what is rendered. No request was
	// judged (see Simulator.Added).
	Added Cause = "Added"
)

// Reason says why a request is not sent to a webhook.
type Reason struct {
	Cause Cause
	// Condition names the matchCondition of the causes that have one.
	Condition string
	// Field is the path of the field that is to blame, with list items by
	// their keys, so that managedFields tells who wrote it; as in
	// webhooks[name="validation.fusegate.dev"].matchConditions[name="x"].
	Field string
	// Text says more, for people.
	Text string
}

// String is one line for people.
func (r Reason) String() string {
	if r.Field == "" {
		return r.Text
	}
	return r.Field + ": " + r.Text
}

// Outcome says whether the API server sends a request to a webhook.
type Outcome struct {
	Called bool
	// Reasons is empty if and only if Called. The first is why the API server
	// stops; matchConditions beside it that would stop it too follow.
	Reasons []Reason
}

// fieldOf is the path of a field of an entry, which is a list item by name.
func fieldOf(entry, name string) string { return fmt.Sprintf("webhooks[name=%q].%s", entry, name) }

func conditionField(entry, condition string) string {
	return fieldOf(entry, fmt.Sprintf("matchConditions[name=%q]", condition))
}
