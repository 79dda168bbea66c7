package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

// judge returns the condition Enforced that a constraint is to have: the first
// thing that stands in the way of enforcing it, or that nothing does.
func (e *Enforcement) judge(u *unstructured.Unstructured, alive map[string]bool) metav1.Condition {
	rejected, reason, lagging, missing := ingestion(u, alive)
	if rejected != "" && reason == v1alpha1.ReasonRejected {
		return notEnforced(reason, rejected)
	}
	if !engine.ActsAtAdmission(u) {
		return notEnforced(v1alpha1.ReasonNotEnforcing, "its action asks for nothing at admission; audit reports its violations")
	}
	if rejected != "" {
		return notEnforced(reason, rejected)
	}
	yes, reason, partly := e.webhook.Intercepted(u)
	if !yes {
		return notEnforced(reason, partly)
	}
	if waiting := waitingFor(u, len(alive), lagging, missing); waiting != "" {
		return notEnforced(v1alpha1.ReasonIngesting, waiting)
	}
	proven, pending, reason, message := e.webhook.Proof()
	if before := trueBefore(u, v1alpha1.ConditionEnforced); pending && before != nil {
		// The rules that are on their way out have it enforced.
		return *before
	}
	if !proven {
		out := notEnforced(reason, message)
		if reason == v1alpha1.ReasonCanaryUnknown {
			out.Status = metav1.ConditionUnknown
		}
		return out
	}
	if partly != "" {
		message += "; " + partly
	}
	return metav1.Condition{Type: v1alpha1.ConditionEnforced, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCanaryAnswered, Message: message}
}

func notEnforced(reason, message string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.ConditionEnforced, Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

// ingestion sums up what the living processes say of the constraint: why one
// does not judge by it, with the reason that this is, which know an older
// generation of it, and which do not know it.
func ingestion(u *unstructured.Unstructured, alive map[string]bool) (rejected, reason string, lagging, missing []string) {
	entries := status.Entries(u)
	for _, pod := range slices.Sorted(maps.Keys(alive)) {
		entry := entries[pod]
		errs := errorsOf(entry)
		switch {
		case entry == nil || entry["constraintUID"] != string(u.GetUID()):
			missing = append(missing, pod)
		case !upToDate(entry, u):
			lagging = append(lagging, pod)
		case len(errs) > 0 && (rejected == "" || reasonOf(errs) != reason && reason == v1alpha1.ReasonInventoryIncomplete):
			rejected, reason = fmt.Sprintf("pod %s: %v", pod, firstMessage(errs)), reasonOf(errs)
		}
	}
	return rejected, reason, lagging, missing
}

// reasonOf is the reason of the condition for what a process says is wrong.
func reasonOf(errs []any) string {
	if e, _ := errs[0].(map[string]any); e["code"] == status.CodeInventory {
		return v1alpha1.ReasonInventoryIncomplete
	}
	return v1alpha1.ReasonRejected
}

// waitingFor says whose ingestion is waited for. A process that has no entry for
// a constraint which was enforced before has just started, if another has one:
// it answers no request until it knows everything.
func waitingFor(u *unstructured.Unstructured, alive int, lagging, missing []string) string {
	if alive == 0 {
		return "no pod of Fusegate has shown that it is alive"
	}
	if trueBefore(u, v1alpha1.ConditionEnforced) != nil && len(missing) < alive {
		missing = nil
	}
	waiting := slices.Concat(lagging, missing)
	if len(waiting) == 0 {
		return ""
	}
	slices.Sort(waiting)
	return "not ingested yet by: " + strings.Join(waiting, ", ")
}

// trueBefore is a condition that the current generation of an object had, nil if
// it was not true.
func trueBefore(u *unstructured.Unstructured, condition string) *metav1.Condition {
	c := apimeta.FindStatusCondition(status.Conditions(u), condition)
	if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != u.GetGeneration() {
		return nil
	}
	return c
}
