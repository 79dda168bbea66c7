package intercept

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/namespace"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules"
	"k8s.io/utils/ptr"
)

// unselected names the requirements of the namespaceSelector that the
// request's namespace does not meet.
func (s *Simulator) unselected(r Request) string {
	m := namespace.Matcher{NamespaceLister: placeOf(r)}
	found, err := m.GetNamespaceLabels(r.attributes())
	if err != nil {
		return fmt.Sprintf("the labels of namespace %q are not known: %v", r.namespace(), err)
	}
	return fmt.Sprintf("%q does not hold for namespace %q", unmet(s.namespaceSelector, found), r.namespace())
}

func unmet(selector labels.Selector, of labels.Set) string {
	var out []string
	requirements, _ := selector.Requirements()
	for _, q := range requirements {
		if !q.Matches(of) {
			out = append(out, q.String())
		}
	}
	return strings.Join(out, ",")
}

// closest says what of the rules keeps the request out: the one thing, if it
// is one, by which a rule misses it.
func (s *Simulator) closest(a admission.Attributes) string {
	what := strings.TrimPrefix(a.GetResource().Group+"/", "/") + a.GetResource().Version + " " + a.GetResource().Resource
	if sub := a.GetSubresource(); sub != "" {
		what += "/" + sub
	}
	for i, rule := range s.entry.Rules {
		for _, w := range widened(rule) {
			if m := (rules.Matcher{Rule: w.rule, Attr: a}); m.Matches() {
				return fmt.Sprintf("no rule matches %s of %s; rule %d would but for its %s", a.GetOperation(), what, i, w.field)
			}
		}
	}
	return fmt.Sprintf("no rule matches %s of %s", a.GetOperation(), what)
}

type widening struct {
	field string
	rule  admissionregistrationv1.RuleWithOperations
}

// widened are copies of a rule with one field each that takes everything.
func widened(rule admissionregistrationv1.RuleWithOperations) []widening {
	scope, versions, operations := rule, rule, rule
	scope.Scope = ptr.To(admissionregistrationv1.AllScopes)
	versions.APIVersions = []string{wildcard}
	operations.Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll}
	return []widening{
		{fmt.Sprintf("scope %q", ptr.Deref(rule.Scope, admissionregistrationv1.AllScopes)), scope},
		{fmt.Sprintf("apiVersions %q", rule.APIVersions), versions},
		{fmt.Sprintf("operations %q", rule.Operations), operations},
	}
}
