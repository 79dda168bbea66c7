package match_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

func TestExplain(t *testing.T) {
	everything := map[string]any{
		"kinds":              []any{map[string]any{"apiGroups": []any{"", "apps"}, "kinds": []any{"Pod"}}, map[string]any{"apiGroups": []any{"*"}}},
		"scope":              "Namespaced",
		"source":             "Original",
		"namespaces":         []any{"team-*"},
		"excludedNamespaces": []any{"team-x"},
		"name":               "web*",
		"labelSelector":      map[string]any{"matchLabels": map[string]any{"app": "shop"}},
		"namespaceSelector":  map[string]any{"matchLabels": map[string]any{"tier": "gold"}},
	}
	object := func(name, app string) map[string]any {
		return map[string]any{"metadata": map[string]any{"name": name, "namespace": "team-a", "labels": map[string]any{"app": app}}}
	}
	gold := policy.Namespace{Known: true, Object: map[string]any{"metadata": map[string]any{"labels": map[string]any{"tier": "gold"}}}}
	cases := map[string]struct {
		reason string
		match  map[string]any
		review policy.Review
		want   []string
	}{
		"None": {reason: "Nothing is asked for."},
		"All": {
			reason: "Every clause is gone through, also after one that does not hold.",
			match:  everything,
			review: policy.Review{Kind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, Object: object("db", "shop"), Namespace: "team-a", NamespaceObject: gold},
			want: []string{
				"object source true: Original is wanted",
				"object kinds true: it is Pod of the core group; wanted Pod of the core group or apps, or any kind of any group",
				"object scope true: it is Namespaced; wanted Namespaced",
				`object excludedNamespaces true: it lives in namespace "team-a"; left out are team-x`,
				`object namespaces true: it lives in namespace "team-a"; wanted team-*`,
				`object name false: it is called "db"; wanted web*`,
				"object labelSelector true: its labels are app=shop; wanted app=shop",
				`object namespaceSelector true: the labels of namespace "team-a" are tier=gold; wanted tier=gold`,
			},
		},
		"Both": {
			reason: "The old object is another try.",
			match:  map[string]any{"labelSelector": everything["labelSelector"]},
			review: policy.Review{Object: object("a", "x"), OldObject: object("a", "shop")},
			want: []string{
				"object labelSelector false: its labels are app=x; wanted app=shop",
				"oldObject labelSelector true: its labels are app=shop; wanted app=shop",
			},
		},
		"Unknown": {
			reason: "What is not known is not guessed.",
			match:  map[string]any{"namespaceSelector": everything["namespaceSelector"]},
			review: policy.Review{Object: object("a", "x"), Namespace: "team-a"},
			want:   []string{`object namespaceSelector false: it cannot be decided: the labels of namespace "team-a" are not known`},
		},
		"Cluster": {
			reason: "What lives in no namespace passes what is about namespaces.",
			match:  map[string]any{"namespaces": everything["namespaces"], "namespaceSelector": everything["namespaceSelector"]},
			review: policy.Review{Kind: schema.GroupVersionKind{Version: "v1", Kind: "Node"}, Object: map[string]any{}},
			want: []string{
				"object namespaces true: it lives in no namespace, which passes; wanted team-*",
				"object namespaceSelector true: it lives in no namespace, which passes",
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := match.Compile(c.match)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			holds := map[string]bool{"object": true}
			for _, x := range m.Explain(&c.review) {
				got = append(got, fmt.Sprintf("%s %s %v: %s", x.Object, x.Field, x.Holds, x.Why))
				before, known := holds[x.Object]
				holds[x.Object] = x.Holds && (before || !known)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s\n(-want +got)\n%s", c.reason, diff)
			}
			matched, _ := m.Match(&c.review)
			if explained := holds["object"] || holds["oldObject"]; explained != matched {
				t.Errorf("explained as %v, but it is %v", explained, matched)
			}
		})
	}
}
