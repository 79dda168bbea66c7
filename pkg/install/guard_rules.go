package install

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
)

// catalog is what the cluster serves, as it was last discovered.
type catalog struct {
	served []*metav1.APIResourceList
	failed []string // groups that could not be discovered
	taken  time.Time
	// changes counts how often it was another than before.
	changes uint64
}

// discover brings the catalog up to date.
func (g *Guard) discover() error {
	_, served, err := g.Discovery.ServerGroupsAndResources()
	failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
	if err != nil && !partial {
		return fmt.Errorf("discovering what the cluster serves: %w", err)
	}
	// They come in any order.
	served = slices.SortedFunc(slices.Values(served), func(a, b *metav1.APIResourceList) int {
		return strings.Compare(a.GroupVersion, b.GroupVersion)
	})
	groups := []string{}
	for gv := range failed {
		groups = append(groups, gv.Group)
	}
	slices.Sort(groups)
	groups = slices.Compact(groups)
	if len(groups) > 0 && !slices.Equal(groups, g.catalog.failed) {
		g.Log.Info("some API groups cannot be discovered; their rules stay as they are", "groups", groups)
	}
	changes := g.catalog.changes
	if !slices.Equal(groups, g.catalog.failed) || !reflect.DeepEqual(served, g.catalog.served) {
		changes++
	}
	g.catalog = catalog{served: served, failed: groups, taken: time.Now(), changes: changes}
	return nil
}

// rules are what each entry needs to intercept.
func (g *Guard) rules(live *admissionregistrationv1.ValidatingWebhookConfiguration) (rules, error) {
	needs := g.Subjects()
	policies, missing := intercept.Rules(needs, g.catalog.served)
	if len(missing) > 0 || time.Since(g.catalog.taken) > g.Timings.CatalogAge {
		if err := g.discover(); err != nil {
			return nil, err
		}
		policies, missing = intercept.Rules(needs, g.catalog.served)
	}
	if len(missing) > 0 {
		g.Log.V(1).Info("some kinds that constraints match are not served", "kinds", missing)
	}
	policies = append(policies, g.catalog.hidden(live, missing)...)
	return rules{
		exempt.PolicyEntry: append(policies, exempt.CanaryRules()...),
		exempt.EngineEntry: engineRules(),
		exempt.ProbeEntry:  exempt.CanaryRules(),
	}, nil
}

// hidden are the live rules that must stay although nothing discovered asks for
// them: those of groups that could not be discovered, and those of resources
// that are not served where a kind is missing, which may be theirs. An API
// server that has just started serves a resource later than it answers. What is
// not served cannot be requested, so that a rule too many costs nothing.
func (c catalog) hidden(live *admissionregistrationv1.ValidatingWebhookConfiguration, missing []string) []admissionregistrationv1.RuleWithOperations {
	var out []admissionregistrationv1.RuleWithOperations
	for _, w := range live.Webhooks {
		if w.Name != string(exempt.PolicyEntry) {
			continue
		}
		for _, r := range w.Rules {
			for _, group := range r.APIGroups {
				out = append(out, narrow(r, group, func(resource string) bool {
					return slices.Contains(c.failed, group) ||
						lacks(missing, group) && resource != "*" && !c.serves(group, resource)
				})...)
			}
		}
	}
	return out
}

// narrow is the part of r that is about a group and the resources for which
// keep is true; empty if there is none.
func narrow(r admissionregistrationv1.RuleWithOperations, group string, keep func(resource string) bool) []admissionregistrationv1.RuleWithOperations {
	r = *r.DeepCopy()
	r.APIGroups = []string{group}
	r.Resources = slices.DeleteFunc(r.Resources, func(resource string) bool { return !keep(resource) })
	if len(r.Resources) == 0 {
		return nil
	}
	return []admissionregistrationv1.RuleWithOperations{r}
}

// lacks tells whether one of the missing kinds, as intercept.Rules names them,
// may be of the group.
func lacks(missing []string, group string) bool {
	return slices.ContainsFunc(missing, func(kind string) bool {
		_, g, _ := strings.Cut(kind, ".")
		return g == group || g == "*"
	})
}

func (c catalog) serves(group, resource string) bool {
	return slices.ContainsFunc(c.served, func(l *metav1.APIResourceList) bool {
		g, _, versioned := strings.Cut(l.GroupVersion, "/")
		if !versioned {
			g = ""
		}
		return g == group && slices.ContainsFunc(l.APIResources, func(r metav1.APIResource) bool { return r.Name == resource })
	})
}

// engineRules are the writes of templates and constraints, which are validated
// when they are applied. Deletions never are: nothing may stand in their way.
func engineRules() []admissionregistrationv1.RuleWithOperations {
	scope := admissionregistrationv1.AllScopes
	rule := func(group, resource string) admissionregistrationv1.RuleWithOperations {
		return admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
			Rule: admissionregistrationv1.Rule{
				APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{resource}, Scope: &scope,
			},
		}
	}
	return []admissionregistrationv1.RuleWithOperations{
		rule("constraints.gatekeeper.sh", "*"),
		rule("templates.gatekeeper.sh", "constrainttemplates"),
	}
}

func toList(rules []admissionregistrationv1.RuleWithOperations) ([]any, error) {
	out := make([]any, len(rules))
	for i := range rules {
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&rules[i])
		if err != nil {
			return nil, fmt.Errorf("converting a rule: %w", err)
		}
		out[i] = m
	}
	return out, nil
}
