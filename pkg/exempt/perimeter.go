package exempt

import (
	"fmt"
	"slices"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Entry is one webhook of Fusegate's webhook configuration, by its name.
type Entry string

// The entries that Fusegate installs.
const (
	// PolicyEntry judges by the constraints.
	PolicyEntry Entry = "validation.fusegate.dev"
	// EngineEntry judges the constraints and their templates themselves.
	EngineEntry Entry = "policies.fusegate.dev"
	// ProbeEntry answers the canaries that measure the path to the webhook.
	ProbeEntry Entry = "probe.fusegate.dev"
)

// ProbeName is the name of the object by which Fusegate asks its own webhook
// whether it answers, without an API server between them. The object is said
// to lie in kube-system, so that no policy is asked; the webhook counts such
// requests apart from those that the API server sends.
const ProbeName = "fusegate-probe"

// Perimeter says who and what is outside policy. The zero value is the
// perimeter of zero Options, the smallest there is. A Perimeter is immutable
// and safe for concurrent use.
type Perimeter struct{ compiled *compiled }

// compiled is shared by all copies of a Perimeter and never written again.
type compiled struct {
	exact      []string
	namespaces predicate
	forTenants predicate
	rules      map[Entry][]rule
}

var smallest = sync.OnceValue(func() *compiled { return Options{}.withDefaults().compile() })

// New returns the perimeter that o asks for. Its errors join one error for
// each value that cannot be had, naming the field, the value and the fix.
func New(o Options) (Perimeter, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Perimeter{}, err
	}
	return Perimeter{o.compile()}, nil
}

func (o Options) compile() *compiled {
	exact, _ := o.namespaces()
	c := &compiled{
		exact: exact, namespaces: o.namespaced(namespace), rules: map[Entry][]rule{},
		forTenants: all{o.controllers(), createsWorkload},
	}
	for entry, own := range map[Entry]rule{
		PolicyEntry: {"not-policy-object", all{ownKinds.predicate(), not(policyCanary)}, "the engine's own", resourceName},
		EngineEntry: {"only-policy-object", not(policyWrite), "not a write of a policy:", resourceName},
		ProbeEntry:  {"only-path-canary", not(pathCanary), "not a canary of the path:", resourceName},
	} {
		c.rules[entry] = append(o.common(), own)
	}
	return c
}

func (p Perimeter) get() *compiled {
	if p.compiled == nil {
		return smallest()
	}
	return p.compiled
}

// ExemptNamespace tells whether all that lives in the namespace, and the
// Namespace itself, is outside policy. No cluster-scoped object is, so it is
// false for the empty name.
func (p Perimeter) ExemptNamespace(name string) bool {
	return p.get().namespaces.holds(&policy.Review{Namespace: name})
}

// ForTenant tells whether a controller of the control plane creates what a tenant's
// object asks for, such as a Pod of a ReplicaSet: what controllers do that is judged.
func (p Perimeter) ForTenant(r *policy.Review) bool { return p.get().forTenants.holds(r) }

// NamespaceSelector returns a new selector of the namespaces that are exempt
// by their exact names; matchConditions repeat it, and add what a selector
// cannot say.
//
// It is keyed by the label that the API server itself sets and guards, so that
// nobody can label a namespace out of policy.
func (p Perimeter) NamespaceSelector() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: slices.Clone(p.get().exact),
	}}}
}

// MatchConditions returns new matchConditions for the entry, always in the
// same order. For an entry that Fusegate does not have, they match nothing.
//
// Every expression is free of errors on every request, because under
// failurePolicy Ignore an error silently skips the webhook.
func (p Perimeter) MatchConditions(entry Entry) []admissionregistrationv1.MatchCondition {
	rules := p.rules(entry)
	out := make([]admissionregistrationv1.MatchCondition, len(rules))
	for i, r := range rules {
		expression, _ := not(r.exempts).cel()
		out[i] = admissionregistrationv1.MatchCondition{Name: r.condition, Expression: expression}
	}
	return out
}

func (p Perimeter) rules(entry Entry) []rule {
	if rules, ok := p.get().rules[entry]; ok {
		return rules
	}
	return []rule{{"no-such-entry", not(some{}), "no such entry:", func(*policy.Review) string { return string(entry) }}}
}

// Judge tells whether the request is outside policy at the entry that is made
// for it, and why. It is the webhook's own second check of what the API server
// was told to keep from it.
//
// Judge reads the resource that r names. Where matchPolicy Equivalent converts
// a request, the API server evaluates matchConditions against the resource
// that was asked for (k8s.io/apiserver pkg/admission/plugin/webhook/generic)
// and sends that one as requestResource.
func (p Perimeter) Judge(r *policy.Review) (reason string, exempt bool) {
	return p.JudgeAt(EntryFor(r), r)
}

// JudgeAt tells whether the perimeter keeps the request from an entry, and
// why: it is exempt if and only if the selector or one of the matchConditions
// of that entry does not match.
func (p Perimeter) JudgeAt(entry Entry, r *policy.Review) (reason string, exempt bool) {
	for _, rule := range p.rules(entry) {
		if rule.exempts.holds(r) {
			return fmt.Sprintf("%s %q (%s)", rule.what, rule.subject(r), rule.condition), true
		}
	}
	return "", false
}

// EntryFor returns the entry that is made for requests of the reviewed kind.
func EntryFor(r *policy.Review) Entry {
	switch {
	case judgedKinds.predicate().holds(r):
		return EngineEntry
	case pathCanary.holds(r):
		return ProbeEntry
	}
	return PolicyEntry
}

// Enforceable tells whether constraints on the resource can be enforced at
// admission at all; on the others they are only audited, whoever writes them
// and wherever they live. The subresource is empty for the resource itself.
func (p Perimeter) Enforceable(gr schema.GroupResource, subresource string) bool {
	// A request by nobody and to no place is exempt only for what it is about.
	_, exempt := p.JudgeAt(PolicyEntry, &policy.Review{Resource: gr.WithVersion(""), SubResource: subresource})
	return !exempt
}
