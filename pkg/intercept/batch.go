package intercept

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

// representatives stand for every kind, where a constraint names none.
var representatives = []target{
	{"", "configmaps"}, {"apps", "deployments"}, {"", "namespaces"},
	{"rbac.authorization.k8s.io", "clusterroles"}, {"", "pods"}, {"", "services"},
}

// batch makes the samples of one need.
type batch struct {
	sampler *Sampler
	need    match.Need
	// kinds are those of the need.
	kinds []match.Kinds
	plan  planner
	// places are the namespaces to sample in, inside those that the match
	// block selects within the perimeter; known tells that the places exist or
	// are named by the match block.
	places []Namespace
	inside []string
	known  bool
	// wantsPlace tells that a target was namespaced, wantsNone that one was not.
	wantsPlace, wantsNone bool

	reachable map[schema.GroupKind]bool
	tried     map[schema.GroupKind]bool
	covered   map[schema.GroupKind]bool
	sampled   map[target]bool
	// turn rotates through the places.
	turn     int
	samples  []Request
	coverage Coverage
}

func newBatch(s *Sampler, n match.Need) *batch {
	b := &batch{
		sampler: s, need: n, kinds: n.Match.Kinds(), plan: newPlanner(s.catalogue),
		reachable: map[schema.GroupKind]bool{}, tried: map[schema.GroupKind]bool{},
		covered: map[schema.GroupKind]bool{}, sampled: map[target]bool{},
	}
	b.plan.add(n)
	b.findPlaces()
	return b
}

// targets lists what can be sampled: the resources of which the plan wants
// something, the most telling first.
func (b *batch) targets() []resource {
	var out []resource
	for _, r := range b.sampler.catalogue {
		if b.operations(r) != 0 && b.sampler.interceptable(r) {
			b.reachable[r.kind] = true
			out = append(out, r)
		}
	}
	first := map[target]string{}
	for _, r := range out {
		if _, ok := first[r.target]; !ok {
			first[r.target] = r.version
		}
	}
	ranks := map[resource]int{}
	for _, r := range out {
		ranks[r] = b.rank(r, first[r.target])
	}
	slices.SortStableFunc(out, func(x, y resource) int { return cmp.Compare(ranks[x], ranks[y]) })
	return out
}

// rank orders targets: what is named, or stands for the rest, then
// subresources, then the rest, and other versions of the same last.
func (b *batch) rank(r resource, first string) int {
	i := slices.Index(representatives, r.target)
	last := len(representatives)
	switch {
	case r.version != first:
		return last + 2
	case r.subresource() != "":
		return last
	case b.names(r.kind):
		return 0
	case i >= 0:
		return i
	}
	return last + 1
}

// operations are those for which a request of r must be intercepted: the plan
// wants them and the resource takes them.
func (b *batch) operations(r resource) operations {
	wanted := b.plan.wanted[r.target]
	if r.subresource() == "" {
		wanted |= b.plan.wanted[target{r.group, wildcard}] | b.plan.wanted[target{wildcard, wildcard}]
	}
	return wanted & r.takes & (r.offered | connect)
}

// interceptable tells whether requests for the resource can be sent to a
// webhook of ours at all.
func (s *Sampler) interceptable(r resource) bool {
	a := admission.NewAttributesRecord(nil, nil, r.gvk(), "", "", r.gvr(), r.subresource(), "", nil, false, nil)
	return !rules.IsExemptAdmissionConfigurationResource(a) &&
		s.perimeter.Enforceable(r.gvr().GroupResource(), r.subresource())
}

// add samples one target. Of the first that can be sampled there are more: in
// every place, and by users of every sort.
func (b *batch) add(r resource) {
	places := b.placesOf(r)
	if len(places) == 0 {
		return
	}
	b.tried[r.kind] = true
	first := len(b.samples) == 0
	for _, op := range b.operations(r).types() {
		b.sampleSomewhere(r, policy.Operation(op), places)
		b.turn++
	}
	if first && len(b.samples) > 0 {
		b.widen(r, b.samples[0], places)
	}
}

// sampleSomewhere adds one request, in the first place where it is confirmed.
func (b *batch) sampleSomewhere(r resource, op policy.Operation, places []Namespace) {
	for i := range places {
		if b.try(b.request(r, op, places[(b.turn+i)%len(places)])) {
			b.covered[r.kind], b.sampled[r.target] = true, true
			return
		}
	}
}

// widen adds to the first sample the same in other places, and by others.
func (b *batch) widen(r resource, like Request, places []Namespace) {
	for _, p := range places {
		if p.Name != like.Namespace {
			b.try(b.request(r, like.Operation, p))
		}
	}
	for _, who := range others(cmp.Or(like.Namespace, metav1.NamespaceDefault)) {
		other := like
		other.User = who
		b.try(other)
	}
}

func (b *batch) try(r Request) bool {
	if !b.sampler.confirm(b.need, r) {
		return false
	}
	b.samples = append(b.samples, r)
	return true
}

// request makes a request of r up, in a namespace if it has one.
func (b *batch) request(r resource, op policy.Operation, at Namespace) Request {
	out := Request{
		Kind: r.gvk(), Resource: r.gvr(), SubResource: r.subresource(), Operation: op, User: tenant,
		Name: fill(b.need.Match.Name(), word), Equivalents: b.sampler.equivalents(r),
	}
	labels := requirementsOf(b.need.Match.LabelSelector())
	var fixed map[string]string
	switch {
	case r.isNamespace():
		out.Name, out.Namespace = at.Name, at.Name
		labels = slices.Concat(labels, requirementsOf(b.need.Match.NamespaceSelector()))
		fixed = namespaceLabels(at.Name, nil)
	case r.namespaced:
		out.Namespace, out.NamespaceLabels = at.Name, namespaceLabels(at.Name, at.Labels)
	}
	solved, _ := solve(labels, fixed)
	if r.isNamespace() {
		out.NamespaceLabels = solved
	}
	out.setObjects(solved, r.isNamespace())
	return out
}

// setObjects gives the request the objects that its operation comes with.
func (r *Request) setObjects(labels map[string]string, isNamespace bool) {
	object := map[string]any{"apiVersion": r.Kind.GroupVersion().String(), "kind": r.Kind.Kind}
	if r.Operation == policy.Connect {
		r.Object = object
		return
	}
	metadata := map[string]any{"name": r.Name}
	if r.Namespace != "" && !isNamespace {
		metadata["namespace"] = r.Namespace
	}
	if len(labels) > 0 {
		content := map[string]any{}
		for k, v := range labels {
			content[k] = v
		}
		metadata["labels"] = content
	}
	object["metadata"] = metadata
	if r.Operation != policy.Delete {
		r.Object = object
	}
	if r.Operation == policy.Update || r.Operation == policy.Delete {
		r.OldObject = object
	}
}

// fill puts a word in the place of the stars of a pattern; no pattern is a
// star.
func fill(pattern, word string) string {
	if pattern == "" {
		return word
	}
	return strings.ReplaceAll(pattern, wildcard, word)
}
