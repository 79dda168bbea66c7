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
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/match"
)

// wildcard stands for every group, version or top-level resource of a rule.
const wildcard = "*"

// Rules returns the rules that let through to the webhook what the needs ask
// for, and the kinds among them that the cluster does not serve, as Kind.group
// with "*" for any, at most maxMissing of them and then "*.*". Served is what
// discovery found, subresources included. It must be complete: a kind that is
// left out of it, because its API was down while it was asked, is no longer
// intercepted. Pass what was last known of it.
//
// What is not served has no rule, whatever is asked for, so that the rules are
// as many as the cluster has resources at most.
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
// The status of a built-in kind, and finalize of namespaces, are among them for
// UPDATE, since metadata can be changed by them; of these requests the perimeter lets
// through only those that do. So are pods/binding and bindings for a Pod, and where
// Need.Scales the subresource scale. Status of others (but for that of services),
// token, approval and eviction are never asked for. Every kind, or every kind of
// a served group, becomes the resource "*", which covers kinds still to come and
// no subresource; every kind also "*/scale", since whoever may scale changes what is scaled. "*/*" is
// never used. Operations that no API server knows are ignored, since one of them
// would make it refuse every rule. Of a match block, only the kinds count: its other
// clauses are left to the engine.
func Rules(needs []match.Need, served []*metav1.APIResourceList) (rules []admissionregistrationv1.RuleWithOperations, missing []string) {
	return rulesOf(needs, newCatalogue(served))
}

func rulesOf(needs []match.Need, catalogue []resource) (rules []admissionregistrationv1.RuleWithOperations, missing []string) {
	p := newPlanner(catalogue)
	for _, n := range needs {
		p.add(n)
		p.addChanged(n)
	}
	p.dropCovered()
	return p.rules(), slices.Sorted(maps.Keys(p.missing))
}

// maxMissing bounds the kinds that are named as not served.
const maxMissing = 1000

// target is what a rule names: a resource or subresource of a group.
type target struct{ group, resource string }

// planner collects the operations that are wanted for each target.
type planner struct {
	catalogue []resource
	groups    map[string]bool // that are served
	wanted    map[target]operations
	missing   map[string]bool
}

func newPlanner(catalogue []resource) planner {
	p := planner{catalogue: catalogue, groups: map[string]bool{}, wanted: map[target]operations{}, missing: map[string]bool{}}
	for _, r := range catalogue {
		p.groups[r.kind.Group] = true
	}
	return p
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

// addChanged asks for what changes objects of the kinds in the guise of another: the
// Bindings of Pods, and the Scales of what a need may judge by how many replicas it
// has. Of kinds that are not Kubernetes' own it is not known here which field
// scaling changes.
func (p *planner) addChanged(n match.Need) {
	if operationsOf(n.Operations)&update == 0 {
		return
	}
	entries := n.Match.Kinds()
	for _, r := range p.catalogue {
		if r.by != 0 && asks(entries, r.of) && (r.subresource() != scale || n.Scales || !builtIn(r.group)) {
			p.want(r.target, r.by)
		}
	}
}

// builtIn tells whether kinds of the group that can be scaled are Kubernetes' own.
func builtIn(group string) bool { return group == "" || group == "apps" }

// asks tells whether one of the entries takes a kind; none take every kind.
func asks(entries []match.Kinds, kind schema.GroupKind) bool {
	return len(entries) == 0 || slices.ContainsFunc(entries, func(e match.Kinds) bool {
		return holds(e.Groups, kind.Group) && holds(e.Kinds, kind.Kind)
	})
}

// addGroups asks for every kind of some groups, of all when there are none.
func (p *planner) addGroups(groups []string, ops operations) {
	if len(groups) == 0 {
		p.want(target{wildcard, wildcard}, ops&^connect)
		p.want(target{wildcard, wildcard + "/scale"}, ops&update)
	}
	for _, g := range groups {
		if !p.groups[g] {
			p.miss(g, wildcard)
			continue
		}
		p.want(target{g, wildcard}, ops&^connect)
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
		if holds(e.Groups, r.kind.Group) && has(e.Kinds, r.kind.Kind) {
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
			if !p.miss(g, kind) {
				return
			}
		}
	}
}

func (p *planner) want(t target, ops operations) { p.wanted[t] |= ops }

// miss notes a kind that is not served, and reports whether there is room for
// another.
func (p *planner) miss(group, kind string) bool {
	if len(p.missing) >= maxMissing {
		p.missing[wildcard+"."+wildcard] = true
		return false
	}
	p.missing[strings.TrimSuffix(kind+"."+group, ".")] = true
	return true
}

// dropCovered takes away what a wildcard asks for already. It also keeps the
// rules valid: the API server refuses a rule that names "*" beside another
// top-level resource.
func (p *planner) dropCovered() {
	everywhere := p.wanted[target{wildcard, wildcard}]
	scaling := p.wanted[target{wildcard, wildcard + "/" + scale}]
	for t, ops := range p.wanted {
		if strings.HasSuffix(t.resource, "/"+scale) && t.group != wildcard {
			p.wanted[t] = ops &^ scaling
		}
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

// holds tells whether a sorted list of a match block holds an item; an empty one
// holds all.
func holds(list []string, item string) bool { return len(list) == 0 || has(list, item) }

func has(list []string, item string) bool {
	_, found := slices.BinarySearch(list, item)
	return found
}
