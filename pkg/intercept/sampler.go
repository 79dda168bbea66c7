package intercept

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/match"
)

// Bounds of the samples of one constraint. There are at most
// maxTargets*4 + maxPlaces + 3 of them.
const (
	maxTargets = 12
	maxPlaces  = 8
)

// Namespace is a live Namespace.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Sampler makes up requests that must be intercepted, for a cluster as it is.
// It is immutable and safe for concurrent use.
type Sampler struct {
	perimeter  exempt.Perimeter
	catalogue  []resource
	versions   map[target][]resource
	namespaces []Namespace
	live       map[string]bool
	// own is the entry that the perimeter renders, for every request; err is
	// why there is none.
	own *Simulator
	err error
}

// NewSampler returns a Sampler for what discovery found, subresources
// included, and for the namespaces that there are. Neither is kept, but the
// namespaces' labels must not be changed.
func NewSampler(served []*metav1.APIResourceList, namespaces []Namespace, p exempt.Perimeter) *Sampler {
	s := &Sampler{
		perimeter: p, catalogue: newCatalogue(served), versions: map[target][]resource{},
		live: map[string]bool{},
	}
	for _, r := range s.catalogue {
		s.versions[r.target] = append(s.versions[r.target], r)
	}
	for _, n := range namespaces {
		s.live[n.Name] = true
		s.namespaces = append(s.namespaces, Namespace{n.Name, namespaceLabels(n.Name, n.Labels)})
	}
	// Those with the fewest labels come first: they are the plainest, and what
	// a selector takes away from others that carry a label is not theirs.
	slices.SortFunc(s.namespaces, func(a, b Namespace) int {
		return cmp.Or(cmp.Compare(len(a.Labels), len(b.Labels)), cmp.Compare(a.Name, b.Name))
	})
	s.own, s.err = NewSimulator(perimeterEntry(p), Server{}) // the perimeter leaves out what newer servers keep
	return s
}

// perimeterEntry is the policy entry as the perimeter renders it, with rules
// that match everything.
func perimeterEntry(p exempt.Perimeter) admissionregistrationv1.ValidatingWebhook {
	return admissionregistrationv1.ValidatingWebhook{
		Name:              string(exempt.PolicyEntry),
		NamespaceSelector: p.NamespaceSelector(),
		MatchConditions:   p.MatchConditions(exempt.PolicyEntry),
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: all.types(),
			Rule: admissionregistrationv1.Rule{
				APIGroups: []string{wildcard}, APIVersions: []string{wildcard}, Resources: []string{wildcard + "/" + wildcard, wildcard},
			},
		}},
	}
}

// Samples returns requests that must be sent to the policy entry for the sake
// of one constraint: its match block selects them and the perimeter does not
// exempt them, both of which is confirmed for each. There are few: some of the
// resources that carry its kinds, with the operations it asks for, in some of
// its namespaces, by users of different sorts. Where the match block names
// namespaces that do not exist yet, or none that exists is selected, one is
// made up.
//
// The samples stay valid until the constraint changes, or what is served, or
// the labels of a namespace in them. They depend on the order of served only
// where a resource has several versions.
//
// Coverage says what they leave out, and why there are none if so.
func (s *Sampler) Samples(n match.Need) ([]Request, Coverage) {
	b := newBatch(s, n)
	if s.err != nil {
		b.coverage.Unknown = []string{fmt.Sprintf("the perimeter's own entry cannot be simulated: %v", s.err)}
		return nil, b.coverage
	}
	targets := b.targets()
	for _, t := range targets {
		if len(b.sampled) >= maxTargets {
			break
		}
		b.add(t)
	}
	return b.samples, b.report(targets)
}

// confirm tells whether a request is one that must be intercepted.
func (s *Sampler) confirm(n match.Need, r Request) bool {
	review := r.Review()
	if matched, err := n.Match.Match(review); !matched || err != nil {
		return false
	}
	if _, outside := s.perimeter.JudgeAt(exempt.PolicyEntry, review); outside {
		return false
	}
	return s.own.Judge(context.Background(), r).Called
}

// equivalents are the other versions of a resource. The API server knows them
// by what they are stored as (k8s.io/apimachinery pkg/runtime,
// EquivalentResourceMapper). Across groups that is true of events alone, which
// are never intercepted.
func (s *Sampler) equivalents(r resource) []Equivalent {
	var out []Equivalent
	for _, v := range s.versions[r.target] {
		if v.version != r.version {
			out = append(out, Equivalent{v.gvr(), v.gvk()})
		}
	}
	return out
}

func (r resource) gvr() schema.GroupVersionResource {
	name, _, _ := strings.Cut(r.resource, "/")
	return schema.GroupVersionResource{Group: r.group, Version: r.version, Resource: name}
}

func (r resource) gvk() schema.GroupVersionKind { return r.kind.WithVersion(r.kindVersion) }

func (r resource) subresource() string {
	_, sub, _ := strings.Cut(r.resource, "/")
	return sub
}

func (r resource) isNamespace() bool { return r.group == "" && r.resource == "namespaces" }
