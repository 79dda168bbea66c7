package report

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// Condition says in the audit's report whether every object in violation has
// its report. It has no transition time.
func (r *Reporter) Condition() metav1.Condition {
	r.mu.Lock()
	defer r.mu.Unlock()
	var problems, done []string
	reason := ""
	for _, s := range r.stores {
		switch {
		case s.problem != nil:
			reason = v1alpha1.ReasonNotWritten
			problems = append(problems, fmt.Sprintf("%s: %v", s.format, s.problem))
		case s.loaded.IsZero():
			reason = v1alpha1.ReasonNotWritten
			problems = append(problems, fmt.Sprintf("%s: not written yet", s.format))
		case len(s.omitted) > 0:
			if reason == "" {
				reason = v1alpha1.ReasonTooMany
			}
			problems = append(problems, fmt.Sprintf("%s: %d objects in violation have no report, since there are %d, as many as reportLimit allows",
				s.format, len(s.omitted), len(s.have)))
		default:
			done = append(done, string(s.format))
		}
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return metav1.Condition{
			Type: v1alpha1.ConditionReported, Status: metav1.ConditionFalse, Reason: reason, Message: strings.Join(problems, "; "),
		}
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionReported, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonWritten,
		Message: "every object in violation has a report: " + strings.Join(done, ", "),
	}
}
