package audit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// TestCarry reckons what is kept of kinds that have not been read.
func TestCarry(t *testing.T) {
	cases := map[string]struct {
		reason string
		list   string // the kinds of the violations that were listed
		total  int64
		unread string // kinds
		found  map[string]int64
		want   int64
		kept   string
	}{
		"nothing before":   {reason: "nothing is kept", unread: "A", want: 0},
		"nothing read":     {reason: "all of it is kept", list: "AB", total: 37, unread: "AB", want: 37, kept: "AB"},
		"all listed":       {reason: "those listed are all there are", list: "ABBC", total: 4, unread: "B", found: map[string]int64{"A": 9}, want: 2, kept: "BB"},
		"read ones before": {reason: "what was not listed is of the last kind or later", list: "AAB", total: 10, unread: "B", found: map[string]int64{"A": 50}, want: 8, kept: "B"},
		"read ones after":  {reason: "those found there now were not listed", list: "AAA", total: 10, unread: "A", found: map[string]int64{"B": 5}, want: 5, kept: "AAA"},
		"more found":       {reason: "not less than were listed", list: "AAA", total: 10, unread: "A", found: map[string]int64{"B": 99}, want: 3, kept: "AAA"},
		"the last is read": {reason: "those listed of it are among those found", list: "ABB", total: 10, unread: "A", found: map[string]int64{"B": 9}, want: 1, kept: "A"},
		"not listed":       {reason: "a kind after those listed may have all the rest", list: "AAA", total: 10, unread: "B", found: map[string]int64{"A": 3}, want: 7},
		"mended":           {reason: "a kind of which nothing is found any more keeps none", list: "AAA", total: 3, unread: "B", want: 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var list []v1alpha1.Violation
			for _, kind := range strings.Split(tc.list, "") {
				list = append(list, v1alpha1.Violation{Kind: kind})
			}
			var found []foundIn
			for kind, n := range tc.found {
				found = append(found, foundIn{schema.GroupVersionKind{Kind: kind}, n})
			}
			kept, n := carry(list, tc.total, found, func(_, kind string) bool { return strings.Contains(tc.unread, kind) })
			var kinds string
			for _, v := range kept {
				kinds += v.Kind
			}
			if diff := cmp.Diff(tc.kept, kinds); diff != "" || n != tc.want {
				t.Errorf("%s: got %d, want %d, (-want +got):\n%s", tc.reason, n, tc.want, diff)
			}
		})
	}
}
