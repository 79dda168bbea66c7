// Package intercept computes which requests the webhook must be sent: from the
// match blocks of the constraints and from what the cluster serves to the rules
// of a webhook configuration. A kind that no constraint matches is never
// intercepted, so an idle Fusegate costs the API server nothing.
//
// It also tells whether they are sent. A Sampler makes up requests that must be
// intercepted for the sake of a constraint, and a Simulator tells by the API
// server's own code which of them a live webhook entry lets through, and which
// of its fields keeps the others away.
package intercept

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/pkg/match"
)

// wildcard stands for every group, version or top-level resource of a rule.
const wildcard = "*"

// Rules returns the rules that let through to the webhook what the needs ask
// for, and the kinds among them that the cluster does not serve, as Kind.group
// with "*" for any. Served is what discovery found, subresources included. It
// must be complete: a kind that is left out of it, because its API was down
// while it was asked, is no longer intercepted. Pass what was last known of it.
//
// There is one rule for each group and set of operations, with all versions;
// the result depends neither on the order of the needs nor on that of served.
// A kind stands for the top-level resources that carry it and can be written,
// and for
//   - their subresources that carry the same kind, as pods/resize does;
//   - when it is named, the subresources of other kinds that carry it, as
//     deployments/scale carries Scale;
//   - for CONNECT, the subresources that take it as options, as pods/exec
//     takes PodExecOptions.
//
// Status (but for that of services), binding, finalize, token, approval and
// eviction are never asked for. Every kind, or every kind of a group, becomes
// the resource "*", which covers kinds still to come and no subresource; every
// kind also "*/scale", since whoever may scale changes what is scaled. "*/*" is
// never used. Operations that no API server knows are ignored, since one of them
// would make it refuse every rule. Of a match block, only the kinds count: its other
// clauses are left to the engine.
func Rules(needs []match.Need, served []*metav1.APIResourceList) (rules []admissionregistrationv1.RuleWithOperations, missing []string) {
	p := planner{catalogue: newCatalogue(served), wanted: map[target]operations{}, missing: map[string]bool{}}
	for _, n := range needs {
		p.add(n)
	}
	p.dropCovered()
	return p.rules(), slices.Sorted(maps.Keys(p.missing))
}

// target is what a rule names: a resource or subresource of a group.
type target struct{ group, resource string }

// planner collects the operations that are wanted for each target.
type planner struct {
	catalogue []resource
	wanted    map[target]operations
	missing   map[string]bool
}

func (p *planner) add(n match.Need) {
	ops := operationsOf(n.Operations)
	entries := n.Match.Kinds()
	if len(entries) == 0 {
		entries = []match.Kinds{{}}
	}
	for _, e := range entries {
		if len(e.Kinds) == 0 {
			p.addGroups(e.Groups, ops)
			continue
		}
		p.addKinds(e, ops)
	}
}

// addGroups asks for every kind of some groups, of all when there are none.
func (p *planner) addGroups(groups []string, ops operations) {
	if len(groups) == 0 {
		p.want(target{wildcard, wildcard}, ops&^connect)
		p.want(target{wildcard, wildcard + "/scale"}, ops&update)
	}
	for _, g := range groups {
		p.want(target{g, wildcard}, ops&^connect)
		if !slices.ContainsFunc(p.catalogue, func(r resource) bool { return r.kind.Group == g }) {
			p.miss(g, wildcard)
		}
	}
	// The subresources: what else is wanted here, the star covers.
	for _, r := range p.catalogue {
		if !r.foreign && holds(groups, r.kind.Group) {
			p.want(r.target, r.reach(ops))
		}
	}
}

// addKinds asks for kinds that are named.
func (p *planner) addKinds(e match.Kinds, ops operations) {
	found := map[string]bool{}
	for _, r := range p.catalogue {
		if holds(e.Groups, r.kind.Group) && slices.Contains(e.Kinds, r.kind.Kind) {
			found[r.kind.Kind] = true
			p.want(r.target, r.reach(ops))
		}
	}
	for _, kind := range e.Kinds {
		// A kind that one of the groups serves is not missed in the others:
		// the entry lists groups and kinds, not pairs.
		if found[kind] {
			continue
		}
		groups := e.Groups
		if len(groups) == 0 {
			groups = []string{wildcard}
		}
		for _, g := range groups {
			p.miss(g, kind)
		}
	}
}

func (p *planner) want(t target, ops operations) { p.wanted[t] |= ops }

func (p *planner) miss(group, kind string) {
	p.missing[strings.TrimSuffix(kind+"."+group, ".")] = true
}

// dropCovered takes away what a wildcard asks for already. It also keeps the
// rules valid: the API server refuses a rule that names "*" beside another
// top-level resource.
func (p *planner) dropCovered() {
	everywhere := p.wanted[target{wildcard, wildcard}]
	for t, ops := range p.wanted {
		if strings.Contains(t.resource, "/") {
			continue
		}
		if t.group != wildcard {
			ops &^= everywhere
		}
		if t.resource != wildcard {
			ops &^= p.wanted[target{t.group, wildcard}]
		}
		p.wanted[t] = ops
	}
}

// rules merges targets of one group that want the same operations.
func (p *planner) rules() []admissionregistrationv1.RuleWithOperations {
	type bucket struct {
		group string
		ops   operations
	}
	resources := map[bucket][]string{}
	for t, ops := range p.wanted {
		if ops != 0 {
			b := bucket{t.group, ops}
			resources[b] = append(resources[b], t.resource)
		}
	}
	buckets := slices.SortedFunc(maps.Keys(resources), func(a, b bucket) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.ops, b.ops))
	})
	var out []admissionregistrationv1.RuleWithOperations
	for _, b := range buckets {
		out = append(out, newRule(b.group, resources[b], b.ops))
	}
	return out
}

func newRule(group string, resources []string, ops operations) admissionregistrationv1.RuleWithOperations {
	slices.Sort(resources)
	scope := admissionregistrationv1.AllScopes
	return admissionregistrationv1.RuleWithOperations{
		Operations: ops.types(),
		Rule: admissionregistrationv1.Rule{
			APIGroups:   []string{group},
			APIVersions: []string{wildcard},
			Resources:   resources,
			Scope:       &scope,
		},
	}
}

// holds tells whether a list of a match block holds an item; an empty one
// holds all.
func holds(list []string, item string) bool {
	return len(list) == 0 || slices.Contains(list, item)
}
