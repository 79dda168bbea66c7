package intercept_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
)

// manyKinds serves so many kinds in one group.
func manyKinds(n int) []*metav1.APIResourceList {
	out := &metav1.APIResourceList{GroupVersion: "many.example.com/v1"}
	for i := range n {
		out.APIResources = append(out.APIResources, entry(fmt.Sprintf("thing%04ds", i), fmt.Sprintf("Thing%04d", i), full))
	}
	return []*metav1.APIResourceList{out}
}

// naming is a need that names so many of them, from one on.
func naming(t *testing.T, name string, from, n int) match.Need {
	t.Helper()
	kinds := make([]any, n)
	for i := range n {
		kinds[i] = fmt.Sprintf("Thing%04d", from+i)
	}
	m, err := match.Compile(map[string]any{"kinds": []any{map[string]any{"apiGroups": []any{"many.example.com"}, "kinds": kinds}}})
	if err != nil {
		t.Fatal(err)
	}
	return match.Need{Kind: "K", Name: name, Match: m}
}

// TestFit: those that ask for most are left out, in whatever order they come, and
// what is left fits.
func TestFit(t *testing.T) {
	served := manyKinds(3000)
	needs := []match.Need{
		naming(t, "huge", 1000, 1500), naming(t, "c", 40, 20), naming(t, "b", 20, 20), naming(t, "a", 0, 20), naming(t, "large", 0, 1000),
	}
	for name, tc := range map[string]struct {
		most int
		left []string
	}{
		"All":       {1 << 20, nil},
		"NotHuge":   {20_000, []string{"huge"}},
		"Small":     {2_000, []string{"large", "huge"}},
		"FirstTwo":  {700, []string{"c", "large", "huge"}},
		"NothingAt": {10, []string{"a", "b", "c", "large", "huge"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				rules, _, left := intercept.Fit(needs, served, tc.most)
				var names []string
				for _, n := range left {
					names = append(names, n.Name)
				}
				if diff := cmp.Diff(tc.left, names); diff != "" {
					t.Errorf("left out (-want +got):\n%s", diff)
				}
				if text, err := json.Marshal(rules); err != nil || rules != nil && len(text) > tc.most {
					t.Errorf("the rules are %d bytes long (%v), want at most %d", len(text), err, tc.most)
				}
				needs[0], needs[3] = needs[3], needs[0]
			}
		})
	}
}

// TestUnservedIsLeftOut: what is not served has no rule, and what is said of it is
// bounded, however much of it is named.
func TestUnservedIsLeftOut(t *testing.T) {
	texts := func(format string) []any {
		out := make([]any, 1000)
		for i := range out {
			out[i] = fmt.Sprintf(format, i)
		}
		return out
	}
	for name, kinds := range map[string][]any{"EveryKind": {"*"}, "Kinds": texts("Kind%d")} {
		m, err := match.Compile(map[string]any{"kinds": []any{map[string]any{"apiGroups": texts("g%d.example.com"), "kinds": kinds}}})
		if err != nil {
			t.Fatal(err)
		}
		n := match.Need{Match: m}
		rules, missing := intercept.Rules([]match.Need{n}, cluster())
		if rules != nil || len(missing) > 1001 || len(missing) < 1000 {
			t.Errorf("%s: %d rules, and %d kinds are missing, want none and about 1000", name, len(rules), len(missing))
		}
		samples, coverage := intercept.NewSampler(cluster(), town(), exempt.Perimeter{}).Samples(n)
		if len(samples) > 0 || len(coverage.NotServed) != 1000 {
			t.Errorf("%s: %d samples, and %d kinds are not served, want none and 1000", name, len(samples), len(coverage.NotServed))
		}
	}
}

// TestOddResources: a name that no rule may hold is left out.
func TestOddResources(t *testing.T) {
	served := manyKinds(1)
	for _, name := range []string{"", "*", "*/*", "a/b/c", "a/", "/a", "x*"} {
		served[0].APIResources = append(served[0].APIResources, entry(name, "Thing0000", full))
	}
	rules, _ := intercept.Rules([]match.Need{naming(t, "a", 0, 1)}, served)
	if diff := cmp.Diff([]string{"thing0000s"}, rules[0].Resources); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}
