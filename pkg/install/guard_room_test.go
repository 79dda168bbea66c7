package install_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/match"
)

// long are so many kinds of a group that nobody has, with names as long as they may
// be.
func long(n int) *metav1.APIResourceList {
	out := &metav1.APIResourceList{GroupVersion: "long.example.com/v1"}
	for i := range n {
		name := fmt.Sprintf("%s%05d", strings.Repeat("x", 58), i)
		for _, more := range []string{"", "y", "z"} { // as many resources with one kind
			out.APIResources = append(out.APIResources, metav1.APIResource{
				Name: strings.Repeat(more, 100) + name + "s", Kind: "K" + name, Verbs: metav1.Verbs{"create", "update"},
			})
		}
	}
	return out
}

// TestRulesWithoutRoom: constraints whose rules the webhook configuration has no room
// for cost only themselves, and say so.
func TestRulesWithoutRoom(t *testing.T) {
	const half = 1900
	kinds := func(from int) []match.Need {
		names := make([]any, half)
		for i := range half {
			names[i] = fmt.Sprintf("K%s%05d", strings.Repeat("x", 58), from+i)
		}
		m, err := match.Compile(map[string]any{"kinds": []any{map[string]any{"apiGroups": []any{"long.example.com"}, "kinds": names}}})
		if err != nil {
			t.Fatal(err)
		}
		return []match.Need{{Match: m}}
	}
	a := arm(t, nil, func(a *armory) {
		a.discover = func(lists []*metav1.APIResourceList) ([]*metav1.APIResourceList, error) {
			return append(lists, long(2*half)), nil
		}
		a.needs = slices.Concat(kinds(half), need(t, "ConfigMap."), kinds(0))
	})
	await(t.Context(), t, "the rules of what fits", func(context.Context) (bool, error) {
		return a.guard.State().Armed && strings.HasPrefix(armedFor(t, a.client), "configmaps "), nil
	})
	a.rounds(t)
	s := a.guard.State()
	if i := s.Of(subject(1)); !i.Intercepted {
		t.Errorf("the small one: %+v, want it intercepted", i)
	}
	if i := s.Of(subject(0)); i.Reason == v1alpha1.ReasonNotArmed {
		t.Errorf("the first of the large ones: %+v, want that there is room for it", i)
	}
	if i := s.Of(subject(2)); i.Reason != v1alpha1.ReasonNotArmed || !strings.Contains(i.Message, "would exceed 768 KiB") {
		t.Errorf("the last of the large ones: %+v, want it left out", i)
	}
}
