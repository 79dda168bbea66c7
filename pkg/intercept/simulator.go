package intercept

import (
	"context"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/namespace"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/object"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules"
	"k8s.io/utils/ptr"
)

// Simulator tells which requests the API server sends to one webhook entry. It
// runs the API server's own matchers, in the API server's order
// (k8s.io/apiserver pkg/admission/plugin/webhook/generic, ShouldCallHook), so
// it knows what that version of k8s.io/apiserver knows. A Simulator is safe for
// concurrent use.
type Simulator struct {
	server            Server
	entry             *admissionregistrationv1.ValidatingWebhook
	namespaceSelector labels.Selector
	objectSelector    labels.Selector
	conditions        conditions
	memo              *memo
}

// NewSimulator compiles an entry of a ValidatingWebhookConfiguration, which it
// copies, for an API server. Fields that are unset get the API server's defaults. An error means
// that a selector is malformed, which the API server does not store.
//
// A matchCondition that cannot be compiled is no error: the API server has
// accepted it, so it is this build that does not know it, and what it says is
// Undecided.
func NewSimulator(entry admissionregistrationv1.ValidatingWebhook, server Server) (*Simulator, error) {
	s := &Simulator{server: server, entry: withDefaults(entry.DeepCopy())}
	var err error
	if s.namespaceSelector, err = metav1.LabelSelectorAsSelector(s.entry.NamespaceSelector); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", s.field("namespaceSelector"), err)
	}
	if s.objectSelector, err = metav1.LabelSelectorAsSelector(s.entry.ObjectSelector); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", s.field("objectSelector"), err)
	}
	s.conditions, s.memo = compile(s.entry), newMemo(s.entry.MatchConditions)
	return s, nil
}

// withDefaults does what the API server does to a stored entry (Kubernetes
// pkg/apis/admissionregistration/v1/defaults.go, SetDefaults_ValidatingWebhook).
func withDefaults(w *admissionregistrationv1.ValidatingWebhook) *admissionregistrationv1.ValidatingWebhook {
	if w.FailurePolicy == nil {
		w.FailurePolicy = ptr.To(admissionregistrationv1.Fail)
	}
	if w.MatchPolicy == nil {
		w.MatchPolicy = ptr.To(admissionregistrationv1.Equivalent)
	}
	if w.NamespaceSelector == nil {
		w.NamespaceSelector = &metav1.LabelSelector{}
	}
	if w.ObjectSelector == nil {
		w.ObjectSelector = &metav1.LabelSelector{}
	}
	return w
}

// Judge tells whether the API server sends the request to the entry, and if
// not, why. It takes about as long as it takes the API server: microseconds,
// or up to some tenths of a second when somebody adds a condition that is
// expensive to evaluate. When ctx ends first, the outcome is Undecided.
func (s *Simulator) Judge(ctx context.Context, r Request) Outcome {
	a := r.attributes()
	if s.server.keeps(a) {
		return stopped(Reason{Cause: NeverSent, Text: r.Kind.Kind + " objects are sent to no webhook from Kubernetes 1.37 on"})
	}
	if rules.IsExemptAdmissionConfigurationResource(a) {
		return stopped(Reason{Cause: NeverSent, Text: r.Kind.Kind + " objects are sent to no webhook"})
	}
	// The errors of the two matchers are those of selectors, which are parsed,
	// and of looking up the namespace, which is at hand.
	n := namespace.Matcher{NamespaceLister: placeOf(r)}
	if ok, err := n.MatchNamespaceSelector(s, a); !ok || err != nil {
		return stopped(s.reason(NamespaceSelector, "namespaceSelector", s.unselected(r)))
	}
	o := object.Matcher{}
	if ok, err := o.MatchObjectSelector(s, a); !ok || err != nil {
		return stopped(s.reason(ObjectSelector, "objectSelector", fmt.Sprintf("%q selects neither the object nor the old one", s.objectSelector)))
	}
	kind, ok := s.matchRules(a, r.Equivalents)
	if !ok {
		return stopped(s.reason(NoRule, "rules", s.closest(a)))
	}
	if why := s.stop(ctx, r, a, kind); len(why) > 0 {
		return stopped(slices.Clone(why)...)
	}
	return Outcome{Called: true}
}

// stop asks the conditions, once for requests that are the same to them.
func (s *Simulator) stop(ctx context.Context, r Request, a admission.Attributes, kind schema.GroupVersionKind) []Reason {
	if s.conditions.evaluator == nil {
		return nil
	}
	key := s.memo.key(r, kind)
	if why, ok := s.memo.get(key); ok {
		return why
	}
	why, final := s.conditions.stop(ctx, versioned(a, kind))
	if final {
		s.memo.put(key, why)
	}
	return why
}

func stopped(why ...Reason) Outcome { return Outcome{Reasons: why} }

// matchRules returns the kind that the request is converted to.
func (s *Simulator) matchRules(a admission.Attributes, equivalents []Equivalent) (schema.GroupVersionKind, bool) {
	for _, rule := range s.entry.Rules {
		if m := (rules.Matcher{Rule: rule, Attr: a}); m.Matches() {
			return a.GetKind(), true
		}
	}
	if *s.entry.MatchPolicy != admissionregistrationv1.Equivalent {
		return schema.GroupVersionKind{}, false
	}
	for _, rule := range s.entry.Rules {
		for _, e := range equivalents {
			if m := (rules.Matcher{Rule: rule, Attr: elsewhere{a, e.Resource}}); m.Matches() {
				return e.Kind, true
			}
		}
	}
	return schema.GroupVersionKind{}, false
}

// elsewhere is a request as if it were for an equivalent resource.
type elsewhere struct {
	admission.Attributes
	resource schema.GroupVersionResource
}

// GetResource implements admission.Attributes.
func (e elsewhere) GetResource() schema.GroupVersionResource { return e.resource }

// GetParsedNamespaceSelector implements namespace.NamespaceSelectorProvider.
func (s *Simulator) GetParsedNamespaceSelector() (labels.Selector, error) {
	return s.namespaceSelector, nil
}

// GetParsedObjectSelector implements object.ObjectSelectorProvider.
func (s *Simulator) GetParsedObjectSelector() (labels.Selector, error) {
	return s.objectSelector, nil
}

func (s *Simulator) field(name string) string { return fieldOf(s.entry.Name, name) }

func (s *Simulator) reason(c Cause, field, text string) Reason {
	return Reason{Cause: c, Field: s.field(field), Text: text}
}
