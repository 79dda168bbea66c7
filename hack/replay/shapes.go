package main

import (
	"errors"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

// The names of the shapes.
const (
	bare       = "none"
	outages    = "the outage's"
	advised    = "the usual advice"
	gatekeeper = "Gatekeeper's default shape"
	fusegate   = "Fusegate, armed on *"
)

// shape is one way to register a webhook.
type shape struct {
	name, says string
	// configuration makes it for a backend and what the cluster serves; nil
	// registers none.
	configuration func(*blackhole, []*metav1.APIResourceList) (*configuration, error)
}

type configuration = admissionregistrationv1.ValidatingWebhookConfiguration

// shapes lists all, from the one that is in nobody's way.
func shapes() []shape {
	return []shape{
		{name: bare, says: "no webhook"},
		{outages, "Fail, 30 s, every request of every resource and subresource, no exclusion", plain(webhook{
			failure: admissionregistrationv1.Fail, timeout: 30, resources: "*/*",
			operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
		})},
		{advised, "Ignore, 10 s, every request of every resource and subresource, no exclusion", plain(webhook{
			failure: admissionregistrationv1.Ignore, timeout: 10, resources: "*/*",
			operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
		})},
		// The policy entry of its chart. The subresources that are listed there
		// too play no role here.
		{gatekeeper, "Ignore, 3 s, CREATE and UPDATE of every resource, its own namespace excluded", plain(webhook{
			failure: admissionregistrationv1.Ignore, timeout: 3, resources: "*",
			operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
			excluded:   "gatekeeper-system",
		})},
		{fusegate, "as installed, with the rules for a constraint that matches every kind and operation", armed},
	}
}

// webhook is what the shapes that are not Fusegate's differ in.
type webhook struct {
	failure    admissionregistrationv1.FailurePolicyType
	timeout    int32
	resources  string
	operations []admissionregistrationv1.OperationType
	excluded   string // a namespace, or empty
}

func plain(w webhook) func(*blackhole, []*metav1.APIResourceList) (*configuration, error) {
	return func(b *blackhole, _ []*metav1.APIResourceList) (*configuration, error) {
		return &configuration{
			ObjectMeta: metav1.ObjectMeta{Name: "replay"},
			Webhooks: []admissionregistrationv1.ValidatingWebhook{{
				Name:                    "replay.fusegate.dev",
				ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: ptr.To(b.url()), CABundle: b.ca},
				Rules:                   []admissionregistrationv1.RuleWithOperations{rule("*", w.resources, w.operations)},
				FailurePolicy:           &w.failure,
				TimeoutSeconds:          &w.timeout,
				NamespaceSelector:       w.selector(),
				SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
				AdmissionReviewVersions: []string{"v1"},
			}},
		}, nil
	}
}

func (w webhook) selector() *metav1.LabelSelector {
	if w.excluded == "" {
		return nil
	}
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{w.excluded},
	}}}
}

func rule(group, resource string, operations []admissionregistrationv1.OperationType) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: operations,
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{resource},
			Scope: ptr.To(admissionregistrationv1.AllScopes),
		},
	}
}

// armed is what pkg/install renders for a webhook outside the cluster, with what
// the controller adds for one constraint without a match block whose template
// asks for every operation, the most it can intercept: the rules, and the
// condition on their revision.
func armed(b *blackhole, served []*metav1.APIResourceList) (*configuration, error) {
	plan, err := install.Render(config.Config{WebhookURL: b.url(), CABundle: b.ca})
	if err != nil {
		return nil, fmt.Errorf("rendering Fusegate's webhook: %w", err)
	}
	at := slices.IndexFunc(plan.Objects, func(u *unstructured.Unstructured) bool {
		return u.GetKind() == "ValidatingWebhookConfiguration"
	})
	if at < 0 {
		return nil, errors.New("rendering Fusegate's webhook: the plan has none")
	}
	c := &configuration{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(plan.Objects[at].Object, c); err != nil {
		return nil, fmt.Errorf("reading Fusegate's webhook: %w", err)
	}
	rules := entryRules(served)
	for i, w := range c.Webhooks {
		entry := exempt.Entry(w.Name)
		known, ok := rules[entry]
		if !ok {
			return nil, fmt.Errorf("arming Fusegate's webhook: no rules are known for the entry %s", w.Name)
		}
		c.Webhooks[i].Rules = known
		if entry == exempt.PolicyEntry {
			c.Webhooks[i].MatchConditions = slices.Concat(w.MatchConditions,
				[]admissionregistrationv1.MatchCondition{exempt.RevisionCondition("replay")})
		}
	}
	return c, nil
}

// entryRules are the rules of each entry: everything, the writes of templates
// and constraints, and the canaries.
func entryRules(served []*metav1.APIResourceList) map[exempt.Entry][]admissionregistrationv1.RuleWithOperations {
	everything, _ := intercept.Rules([]match.Need{{Operations: []policy.Operation{"*"}}}, served)
	writes := []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update}
	return map[exempt.Entry][]admissionregistrationv1.RuleWithOperations{
		exempt.PolicyEntry: append(everything, exempt.CanaryRules()...),
		exempt.EngineEntry: {
			rule("constraints.gatekeeper.sh", "*", writes),
			rule("templates.gatekeeper.sh", "constrainttemplates", writes),
		},
		exempt.ProbeEntry: exempt.CanaryRules(),
	}
}
