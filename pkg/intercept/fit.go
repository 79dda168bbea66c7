package intercept

import (
	"cmp"
	"encoding/json"
	"slices"
	"sort"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/pkg/match"
)

// Fit is Rules for as many of the needs as fit into so many bytes of JSON, and
// the others. Those that ask for most are left out first, and of those that ask
// for as much the last by kind and name: what is large must cost itself alone.
// It takes as long as Rules unless something has to be left out.
func Fit(needs []match.Need, served []*metav1.APIResourceList, most int) (rules []admissionregistrationv1.RuleWithOperations, missing []string, left []match.Need) {
	catalogue := newCatalogue(served)
	if rules, missing = rulesOf(needs, catalogue); sizeOf(rules) <= most {
		return rules, missing, nil
	}
	bySize := smallestFirst(needs, catalogue)
	// More needs never have smaller rules, but for wildcards that cover what
	// others name: then fewer are taken than would fit.
	taken := sort.Search(len(bySize), func(n int) bool {
		rules, _ := rulesOf(bySize[:n+1], catalogue)
		return sizeOf(rules) > most
	})
	rules, missing = rulesOf(bySize[:taken], catalogue)
	return rules, missing, bySize[taken:]
}

func smallestFirst(needs []match.Need, catalogue []resource) []match.Need {
	type sized struct {
		need match.Need
		size int
	}
	all := make([]sized, len(needs))
	for i, n := range needs {
		rules, _ := rulesOf([]match.Need{n}, catalogue)
		all[i] = sized{n, sizeOf(rules)}
	}
	slices.SortStableFunc(all, func(a, b sized) int {
		return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.need.Kind, b.need.Kind), cmp.Compare(a.need.Name, b.need.Name))
	})
	out := make([]match.Need, len(all))
	for i, s := range all {
		out[i] = s.need
	}
	return out
}

// sizeOf is how many bytes of JSON the rules are.
func sizeOf(rules []admissionregistrationv1.RuleWithOperations) int {
	text, err := json.Marshal(rules)
	if err != nil {
		return 0 // nothing in a rule cannot be encoded
	}
	return len(text)
}
