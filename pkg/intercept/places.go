package intercept

import (
	"slices"
	"strconv"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// word is what made-up names are made of.
const word = "fusegate-sample"

// tenant is who sends most samples: somebody of whom no rule speaks.
var tenant = authenticationv1.UserInfo{Username: "fusegate-sample-tenant", Groups: []string{"system:authenticated"}}

// others are who else is judged, unless the perimeter is widened to exempt
// them: an administrator, a service account, and the controllers when they
// create what a tenant's workload asks for.
func others(namespace string) []authenticationv1.UserInfo {
	account := func(namespace, name string) authenticationv1.UserInfo {
		return authenticationv1.UserInfo{
			Username: "system:serviceaccount:" + namespace + ":" + name,
			Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
		}
	}
	return []authenticationv1.UserInfo{
		{Username: "fusegate-sample-admin", Groups: []string{"system:masters", "system:authenticated"}},
		account(namespace, word),
		account("kube-system", "replicaset-controller"),
	}
}

// findPlaces looks for namespaces that the match block selects: live ones, and
// made-up ones for those it names that do not exist. If no such one is outside
// the perimeter, any name that a pattern allows will do.
func (b *batch) findPlaces() {
	for _, n := range b.sampler.namespaces {
		if len(b.places) == maxPlaces {
			break
		}
		b.place(n)
	}
	exact, open := b.madeUp()
	for _, name := range exact {
		b.makePlace(name)
	}
	b.known = len(b.places) > 0
	for _, name := range open {
		if len(b.places) > 0 {
			return
		}
		b.makePlace(name)
	}
}

// makePlace makes a namespace up, with labels that select it.
func (b *batch) makePlace(name string) {
	if b.sampler.live[name] {
		return
	}
	labels, _ := solve(requirementsOf(b.need.Match.NamespaceSelector()), namespaceLabels(name, nil))
	b.place(Namespace{name, labels})
}

// place takes a namespace, if it is selected.
func (b *batch) place(n Namespace) {
	switch {
	case len(b.places) == maxPlaces:
	case !b.need.Match.SelectsNamespace(n.Name, n.Labels):
	case b.sampler.perimeter.ExemptNamespace(n.Name):
		b.inside = append(b.inside, n.Name)
	default:
		b.places = append(b.places, n)
	}
}

// madeUp are names that the match block names, and some that it may select.
func (b *batch) madeUp() (exact, open []string) {
	patterns := b.need.Match.Namespaces()
	if len(patterns) == 0 {
		open = []string{word, "team-a", "x"}
	}
	for _, p := range patterns {
		if strings.Contains(p, wildcard) {
			open = append(open, fill(p, word), fill(p, "x"), strings.ReplaceAll(p, wildcard, ""))
			continue
		}
		exact = append(exact, p)
	}
	for _, r := range requirementsOf(b.need.Match.NamespaceSelector()) {
		if r.Key() == corev1.LabelMetadataName {
			exact = append(exact, slices.Sorted(slices.Values(r.ValuesUnsorted()))...)
		}
	}
	empty := func(name string) bool { return name == "" }
	return slices.DeleteFunc(exact, empty), slices.DeleteFunc(open, empty)
}

// placesOf are the namespaces in which to sample a target; one without name for
// what lives in none.
func (b *batch) placesOf(r resource) []Namespace {
	if !r.namespaced && !r.isNamespace() {
		b.wantsNone = true
		return []Namespace{{}}
	}
	b.wantsPlace = true
	if !r.isNamespace() || b.need.Match.Name() == "" {
		return b.places
	}
	// A Namespace goes by one name, which both clauses must take.
	out := slices.Clone(b.places)
	for _, name := range []string{fill(b.need.Match.Name(), word), fill(b.need.Match.Name(), "")} {
		if name != "" {
			out = append(out, Namespace{Name: name})
		}
	}
	return out
}

func requirementsOf(s labels.Selector) []labels.Requirement {
	if s == nil {
		return nil
	}
	out, _ := s.Requirements()
	return out
}

// solve returns the labels that meet the requirements, with as few as
// possible beside those that are fixed, and whether there are any. Every
// requirement is about one key, so keys are solved one by one.
func solve(requirements []labels.Requirement, fixed map[string]string) (map[string]string, bool) {
	out, solved := map[string]string{}, true
	byKey := map[string][]labels.Requirement{}
	for _, r := range requirements {
		byKey[r.Key()] = append(byKey[r.Key()], r)
	}
	for k, v := range fixed {
		out[k] = v
	}
	for key, of := range byKey {
		if _, ok := fixed[key]; ok {
			solved = solved && meets(of, labels.Set(fixed))
			continue
		}
		if meets(of, labels.Set{}) {
			continue
		}
		value, ok := solution(key, of)
		if !ok {
			solved = false
			continue
		}
		out[key] = value
	}
	return out, solved
}

// solution is a value of the key that meets all requirements: one that they
// list, or one that none of them lists.
func solution(key string, of []labels.Requirement) (string, bool) {
	candidates := []string{word}
	for _, r := range of {
		listed := r.ValuesUnsorted()
		slices.Sort(listed)
		for range listed {
			candidates = append(candidates, word+strconv.Itoa(len(candidates)))
		}
		candidates = append(candidates, listed...)
	}
	for _, v := range candidates {
		if meets(of, labels.Set{key: v}) {
			return v, true
		}
	}
	return "", false
}

func meets(requirements []labels.Requirement, l labels.Set) bool {
	return !slices.ContainsFunc(requirements, func(r labels.Requirement) bool { return !r.Matches(l) })
}
