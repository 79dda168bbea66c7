package intercept

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Coverage says what the samples of a constraint leave out. Where there are no
// samples at least one list is not empty. All are sorted.
type Coverage struct {
	// NotServed are the kinds it names that the cluster does not serve, as
	// Kind.group with "*" for any, at most maxMissing of them.
	NotServed []string
	// NotInterceptable are the kinds it names whose requests are never sent to
	// it, as Kind.group: those outside policy whatever their place and author,
	// such as Lease.coordination.k8s.io, those that cannot be written, and those
	// that do not come with the operations it asks for. Where it names a group
	// they are that group's; where it names every kind they are not listed.
	NotInterceptable []string
	// Exempt are the namespaces it selects, if all that exist or that it names
	// are outside policy.
	Exempt []string
	// Unknown says for which kinds no request could be made up, though there
	// may be one; each is a sentence that names them or the clause.
	Unknown []string
	// Autoscaled tells that it may judge by replicas of kinds that can be scaled: what
	// the controller of HorizontalPodAutoscalers scales is outside policy.
	Autoscaled bool
}

// report completes the coverage, once the samples are there.
func (b *batch) report(targets []resource) Coverage {
	c := b.coverage
	delete(b.plan.missing, wildcard+"."+wildcard) // there are more, which are not named
	c.NotServed = slices.Sorted(maps.Keys(b.plan.missing))
	c.NotInterceptable = b.notInterceptable()
	if b.wantsPlace && len(b.inside) > 0 && !b.known {
		c.Exempt = slices.Sorted(slices.Values(b.inside))
	}
	c.Unknown = b.unknown(targets, c)
	c.Autoscaled = b.need.Scales && operationsOf(b.need.Operations)&update != 0 && slices.ContainsFunc(b.sampler.catalogue, func(r resource) bool {
		return r.subresource() == scale && r.by != 0 && asks(b.kinds, r.of)
	})
	return c
}

// unknown explains the kinds that were tried without a sample.
func (b *batch) unknown(targets []resource, c Coverage) []string {
	if why := b.impossible(); why != "" && len(b.samples) == 0 {
		return []string{why}
	}
	var kinds []string
	for kind := range b.tried {
		if !b.covered[kind] && (len(b.samples) == 0 || b.names(kind)) {
			kinds = append(kinds, kindName(kind))
		}
	}
	if len(kinds) > 0 {
		slices.Sort(kinds)
		return []string{"no request could be made up that the match block selects and the perimeter does not exempt for " + shorten(kinds)}
	}
	if len(b.samples) > 0 || len(c.Exempt) > 0 || len(targets) == 0 && len(c.NotServed)+len(c.NotInterceptable) > 0 {
		return nil
	}
	return []string{"nothing that the cluster serves is both selected by the match block and interceptable"}
}

// impossible names the clause that nothing can meet.
func (b *batch) impossible() string {
	m := b.need.Match
	if m.Source() == policy.SourceGenerated {
		return "spec.match.source is Generated: no request brings such an object, only an expansion makes it"
	}
	if _, ok := solve(requirementsOf(m.LabelSelector()), nil); !ok {
		return fmt.Sprintf("spec.match.labelSelector: no labels meet %q", m.LabelSelector())
	}
	if b.wantsPlace && len(b.places) == 0 && len(b.inside) == 0 && !b.wantsNone {
		return "no namespace could be made up that spec.match.namespaces, excludedNamespaces and namespaceSelector select"
	}
	return ""
}

// notInterceptable lists the kinds that the match block names, by name or by
// group, of whose resources none is a target.
func (b *batch) notInterceptable() []string {
	out := map[string]bool{}
	for _, r := range b.sampler.catalogue {
		if !b.reachable[r.kind] && b.asksFor(r) {
			out[kindName(r.kind)] = true
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// asksFor tells whether the match block names the resource's kind, or names
// its group and the resource is one of the group's own.
func (b *batch) asksFor(r resource) bool {
	for _, k := range b.kinds {
		named := has(k.Kinds, r.kind.Kind) && holds(k.Groups, r.kind.Group)
		grouped := len(k.Kinds) == 0 && has(k.Groups, r.kind.Group) && r.subresource() == ""
		if named || grouped {
			return true
		}
	}
	return false
}

// names tells whether the match block names the kind.
func (b *batch) names(kind schema.GroupKind) bool {
	for _, k := range b.kinds {
		if has(k.Kinds, kind.Kind) && holds(k.Groups, kind.Group) {
			return true
		}
	}
	return false
}

func kindName(k schema.GroupKind) string { return strings.TrimSuffix(k.Kind+"."+k.Group, ".") }

// shorten lists some names for people.
func shorten(names []string) string {
	const some = 8
	if len(names) <= some {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:some], ", "), len(names)-some)
}
