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

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
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

// maxRules is how large the rules that the constraints need may be, in bytes of
// JSON: the webhook configuration is one object, for which the API server takes
// 1.5 MiB.
const maxRules = 768 << 10

// leave notes whose rules there is no room for.
func (g *Guard) leave(left []match.Need) {
	before := len(g.left)
	g.left = map[Identity]bool{}
	for _, n := range left {
		g.left[identityOf(n)] = true
	}
	if len(left) != before && len(left) > 0 {
		g.Log.Info("some constraints ask for more resources than the webhook configuration has room for; their status says so", "constraints", len(left))
	}
}

// tooLarge is what is said of a constraint that is left out.
var tooLarge = Interception{
	Reason: v1alpha1.ReasonNotArmed,
	Message: fmt.Sprintf("with the resources that it matches the rules of the webhook configuration would exceed %d KiB, so that those of the constraints that match most are left out: "+
		`use "*" in spec.match.kinds in place of single kinds; it is audited`, maxRules>>10),
}

// rules are what each entry needs to intercept.
func (g *Guard) rules(live *admissionregistrationv1.ValidatingWebhookConfiguration) (rules, error) {
	needs := g.Subjects()
	policies, missing, left := intercept.Fit(needs, g.catalog.served, maxRules)
	if len(missing) > 0 || time.Since(g.catalog.taken) > g.Timings.CatalogAge {
		if err := g.discover(); err != nil {
			return nil, err
		}
		policies, missing, left = intercept.Fit(needs, g.catalog.served, maxRules)
	}
	g.leave(left)
	if len(missing) > 0 {
		g.Log.V(1).Info("some kinds that constraints match are not served", "kinds", shorten(missing))
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
	lacking, served := groupsOf(missing), c.resources()
	for _, w := range live.Webhooks {
		if w.Name != string(exempt.PolicyEntry) {
			continue
		}
		for _, r := range w.Rules {
			for _, group := range r.APIGroups {
				out = append(out, narrow(r, group, func(resource string) bool {
					return slices.Contains(c.failed, group) ||
						(lacking[group] || lacking["*"]) && resource != "*" && !served[resourceOf{group, resource}]
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

// groupsOf are the groups of which one of the missing kinds, as intercept.Rules
// names them, may be; "*" for any.
func groupsOf(missing []string) map[string]bool {
	out := map[string]bool{}
	for _, kind := range missing {
		_, group, _ := strings.Cut(kind, ".")
		out[group] = true
	}
	return out
}

// resourceOf is a resource or subresource of a group.
type resourceOf struct{ group, resource string }

// resources are those that are served.
func (c catalog) resources() map[resourceOf]bool {
	out := map[resourceOf]bool{}
	for _, l := range c.served {
		group, _, versioned := strings.Cut(l.GroupVersion, "/")
		if !versioned {
			group = ""
		}
		for _, r := range l.APIResources {
			out[resourceOf{group, r.Name}] = true
		}
	}
	return out
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
