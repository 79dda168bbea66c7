package intercept

import (
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// Added lists what somebody added to the entry that can keep requests from it
// that want, the entry as it is rendered, would be sent: matchConditions that
// want does not have or that say something else there, and requirements of the
// selectors. Samples stand for some requests only; what is added may narrow the
// entry for others, such as one user's. Rules are not compared (see Equal), nor
// is what was taken away, which only widens the entry.
func (s *Simulator) Added(want admissionregistrationv1.ValidatingWebhook) []Reason {
	var out []Reason
	out = append(out, s.addedRequirements("namespaceSelector", s.namespaceSelector, want.NamespaceSelector)...)
	out = append(out, s.addedRequirements("objectSelector", s.objectSelector, want.ObjectSelector)...)
	for _, m := range s.entry.MatchConditions {
		if slices.Contains(want.MatchConditions, m) {
			continue
		}
		r := Reason{Cause: Added, Condition: m.Name, Field: conditionField(s.entry.Name, m.Name), Text: "somebody added " + m.Expression}
		if isFuse(m) {
			r.Cause, r.Text = FuseOpen, fuseText
		}
		out = append(out, r)
	}
	return out
}

func (s *Simulator) addedRequirements(field string, live labels.Selector, want *metav1.LabelSelector) []Reason {
	expected := map[string]bool{}
	if w, err := metav1.LabelSelectorAsSelector(want); err == nil {
		for _, q := range requirementsOf(w) {
			expected[q.String()] = true
		}
	}
	var out []Reason
	for _, q := range requirementsOf(live) {
		if !expected[q.String()] {
			out = append(out, s.reason(Added, field, fmt.Sprintf("somebody added %q", q.String())))
		}
	}
	return out
}

// LeftOut lists the namespaces outside the perimeter that the entry's
// namespaceSelector does not select: nothing in them is sent to the entry,
// whatever the samples of a constraint say, which stand for some namespaces
// only. It keeps the order of namespaces.
func (s *Simulator) LeftOut(namespaces []Namespace, p exempt.Perimeter) []string {
	var out []string
	for _, n := range namespaces {
		if !p.ExemptNamespace(n.Name) && !s.namespaceSelector.Matches(labels.Set(namespaceLabels(n.Name, n.Labels))) {
			out = append(out, n.Name)
		}
	}
	return out
}
