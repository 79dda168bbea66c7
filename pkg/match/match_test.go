package match_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

// block is a match block as it is written in a constraint.
func block(t testing.TB, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("decoding match block: %v", err)
	}
	return out
}

func compile(t testing.TB, text string) *match.Matcher {
	t.Helper()
	m, err := match.Compile(block(t, text))
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return m
}

type object = map[string]any

func metadata(m object) object { return object{"metadata": m} }

func labelled(pairs ...string) object {
	l := object{}
	for i := 0; i < len(pairs); i += 2 {
		l[pairs[i]] = pairs[i+1]
	}
	return l
}

func kind(group, name string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: "v1", Kind: name}
}

// pod is the review of a new Pod web-1 in the namespace shop, whose labels
// are tier=gold.
func pod(edits ...func(*policy.Review)) policy.Review {
	r := policy.Review{
		Kind: kind("", "Pod"), Name: "web-1", Namespace: "shop", Operation: policy.Create,
		Object: metadata(object{"name": "web-1", "namespace": "shop", "labels": labelled("app", "web")}),
		NamespaceObject: policy.Namespace{
			Known:  true,
			Object: metadata(object{"name": "shop", "labels": labelled("tier", "gold")}),
		},
	}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func namespace(name string, pairs ...string) policy.Review {
	return policy.Review{
		// The API server sends a Namespace's own name as the namespace.
		Kind: kind("", "Namespace"), Name: name, Namespace: name, Operation: policy.Create,
		Object: metadata(object{"name": name, "labels": labelled(pairs...)}),
	}
}

func clusterRole(name string, pairs ...string) policy.Review {
	return policy.Review{
		Kind: kind("rbac.authorization.k8s.io", "ClusterRole"), Name: name, Operation: policy.Create,
		Object: metadata(object{"name": name, "labels": labelled(pairs...)}),
	}
}

func unknownNamespace(r *policy.Review) { r.NamespaceObject = policy.Namespace{} }

func TestMatch(t *testing.T) {
	cases := map[string]struct {
		reason string
		match  string
		review policy.Review
		want   bool
	}{
		"Empty":     {"no block selects everything", ``, pod(), true},
		"NullField": {"a null is no clause", "labelSelector: null\nkinds: null\nname: null", pod(), true},
		"Unknown":   {"the API server prunes unknown fields, so they mean nothing", "colour: red", pod(), true},

		"Kind":             {"group and kind agree", `kinds: [{apiGroups: [""], kinds: [Pod]}]`, pod(), true},
		"OtherKind":        {"the kind differs", `kinds: [{apiGroups: [""], kinds: [Service]}]`, pod(), false},
		"OtherGroup":       {"the group differs", `kinds: [{apiGroups: [apps], kinds: [Pod]}]`, pod(), false},
		"KindCase":         {"kinds are compared exactly", `kinds: [{apiGroups: [""], kinds: [pod]}]`, pod(), false},
		"KindOr":           {"one entry is enough", `kinds: [{apiGroups: [apps], kinds: [Deployment]}, {apiGroups: [""], kinds: [Pod]}]`, pod(), true},
		"KindNoCross":      {"group and kind must come from one entry", `kinds: [{apiGroups: [""], kinds: [Service]}, {apiGroups: [apps], kinds: [Pod]}]`, pod(), false},
		"AnyKind":          {"a star among the kinds", `kinds: [{apiGroups: [""], kinds: ["*"]}]`, pod(), true},
		"AnyKindOfOther":   {"a star among the kinds of another group", `kinds: [{apiGroups: [apps], kinds: ["*"]}]`, pod(), false},
		"AnyGroup":         {"a star among the groups", `kinds: [{apiGroups: ["*"], kinds: [Pod]}]`, pod(), true},
		"AbsentGroups":     {"no groups stand for any", `kinds: [{kinds: [Pod]}]`, pod(), true},
		"AbsentKinds":      {"no kinds stand for any", `kinds: [{apiGroups: [""]}]`, pod(), true},
		"StarAmongOthers":  {"a star is a star in company too", `kinds: [{apiGroups: [apps, "*"], kinds: [Service, "*"]}]`, pod(), true},
		"EmptyKinds":       {"an empty list is no clause", `kinds: []`, pod(), true},
		"EmptyEntry":       {"an empty entry stands for everything", `kinds: [{}]`, pod(), true},
		"KindOfScale":      {"a subresource is matched by the kind it carries", `kinds: [{apiGroups: [autoscaling], kinds: [Scale]}]`, pod(func(r *policy.Review) { r.Kind = kind("autoscaling", "Scale") }), true},
		"NamespaceInOther": {"a kind called Namespace in another group is none", `scope: Cluster`, pod(func(r *policy.Review) { r.Kind = kind("x.io", "Namespace") }), false},

		"ClusterPod":         {"a Pod has a namespace", `scope: Cluster`, pod(), false},
		"ClusterRole":        {"a ClusterRole has none", `scope: Cluster`, clusterRole("r"), true},
		"ClusterNamespace":   {"a Namespace is cluster-scoped", `scope: Cluster`, namespace("n"), true},
		"NamespacedPod":      {"a Pod has a namespace", `scope: Namespaced`, pod(), true},
		"NamespacedRole":     {"a ClusterRole has none", `scope: Namespaced`, clusterRole("r"), false},
		"NamespacedNS":       {"a Namespace is not in a namespace", `scope: Namespaced`, namespace("n"), false},
		"StarScope":          {"the star is both", `scope: "*"`, pod(), true},
		"UnknownScope":       {"Gatekeeper tolerates any other word as both", `scope: cluster`, pod(), true},
		"ScopeFromMetadata":  {"a file's object says its namespace itself", `scope: Namespaced`, pod(func(r *policy.Review) { r.Namespace = "" }), true},
		"ScopeFromRequest":   {"a request says the namespace for its object", `scope: Namespaced`, pod(func(r *policy.Review) { r.Object = metadata(object{"name": "x"}) }), true},
		"ScopeFromOldObject": {"the deleted object is in both places", `scope: Namespaced`, pod(func(r *policy.Review) { r.OldObject, r.Namespace = r.Object, "" }), true},

		"Namespace":          {"the namespace is listed", `namespaces: [a, shop]`, pod(), true},
		"NamespaceUnlisted":  {"the namespace is not listed", `namespaces: [a, sho, shops]`, pod(), false},
		"NamespacePrefix":    {"star at the end", `namespaces: ["sh*"]`, pod(), true},
		"NamespaceSuffix":    {"star at the start", `namespaces: ["*op"]`, pod(), true},
		"NamespaceContains":  {"star at both ends", `namespaces: ["*ho*"]`, pod(), true},
		"NamespacePrefixNo":  {"a prefix is not a suffix", `namespaces: ["op*"]`, pod(), false},
		"NamespaceSuffixNo":  {"a suffix is not a prefix", `namespaces: ["*sh"]`, pod(), false},
		"NamespaceStar":      {"a star alone is any", `namespaces: ["*"]`, pod(), true},
		"NamespaceStars":     {"two stars are any", `namespaces: ["**"]`, pod(), true},
		"NamespaceEmptyText": {"an empty name is no namespace's", `namespaces: [""]`, pod(), false},
		"NamespaceEmptyList": {"an empty list is no clause", `namespaces: []`, pod(), true},
		"NamespaceObject":    {"a Namespace goes by its own name", `namespaces: ["kube-*"]`, namespace("kube-system"), true},
		"NamespaceObjectNo":  {"a Namespace goes by its own name", `namespaces: ["kube-*"]`, namespace("shop"), false},
		"NamespaceCluster":   {"other cluster-scoped objects always match", `namespaces: [a]`, clusterRole("r"), true},
		"NamespaceMetadata":  {"a file's object says its namespace itself", `namespaces: [shop]`, pod(func(r *policy.Review) { r.Namespace = "" }), true},

		"Excluded":           {"the namespace is excluded", `excludedNamespaces: [shop]`, pod(), false},
		"ExcludedGlob":       {"the namespace is excluded by a glob", `excludedNamespaces: ["s*"]`, pod(), false},
		"ExcludedOther":      {"another namespace is excluded", `excludedNamespaces: [a, "b*"]`, pod(), true},
		"ExcludedNamespace":  {"a Namespace goes by its own name", `excludedNamespaces: [shop]`, namespace("shop"), false},
		"ExcludedCluster":    {"other cluster-scoped objects are never excluded", `excludedNamespaces: ["*"]`, clusterRole("r"), true},
		"ExcludedAndWanted":  {"exclusion wins", "namespaces: [shop]\nexcludedNamespaces: [shop]", pod(), false},
		"ExcludedGenerated":  {"a Namespace with no name yet has the empty one", `excludedNamespaces: ["*"]`, policy.Review{Kind: kind("", "Namespace"), Object: metadata(object{"generateName": "x-"})}, false},
		"NamespaceFromOld":   {"without an object the old one says the name", `namespaces: [shop]`, policy.Review{Kind: kind("", "Namespace"), OldObject: metadata(object{"name": "shop"})}, true},
		"NamespaceOfRequest": {"without any object the request says the name", `namespaces: [shop]`, policy.Review{Kind: kind("", "Namespace"), Name: "shop"}, true},

		"Labels":              {"the label is there", `labelSelector: {matchLabels: {app: web}}`, pod(), true},
		"LabelsDiffer":        {"the value differs", `labelSelector: {matchLabels: {app: db}}`, pod(), false},
		"LabelsAnd":           {"all labels must be there", `labelSelector: {matchLabels: {app: web, x: z}}`, pod(), false},
		"LabelsEmpty":         {"an empty selector selects everything", `labelSelector: {}`, pod(), true},
		"LabelIn":             {"In", `labelSelector: {matchExpressions: [{key: app, operator: In, values: [db, web]}]}`, pod(), true},
		"LabelNotIn":          {"NotIn", `labelSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db, web]}]}`, pod(), false},
		"LabelNotInAbsent":    {"NotIn holds for an absent label", `labelSelector: {matchExpressions: [{key: x, operator: NotIn, values: [z]}]}`, pod(), true},
		"LabelExists":         {"Exists", `labelSelector: {matchExpressions: [{key: app, operator: Exists}]}`, pod(), true},
		"LabelDoesNotExist":   {"DoesNotExist", `labelSelector: {matchExpressions: [{key: app, operator: DoesNotExist, values: []}]}`, pod(), false},
		"LabelsAndExpression": {"both parts must hold", `labelSelector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: DoesNotExist}]}`, pod(), false},
		"LabelNotText":        {"a value that is no text is absent", `labelSelector: {matchExpressions: [{key: num, operator: Exists}]}`, pod(func(r *policy.Review) { r.Object = metadata(object{"labels": object{"num": int64(1)}}) }), false},
		"LabelsNoMap":         {"labels that are no object are none", `labelSelector: {matchExpressions: [{key: num, operator: DoesNotExist}]}`, pod(func(r *policy.Review) { r.Object = metadata(object{"labels": "num"}) }), true},
		"LabelsOfOld":         {"an update that removes the label is still seen", `labelSelector: {matchLabels: {app: web}}`, pod(func(r *policy.Review) { r.OldObject, r.Object = r.Object, metadata(object{"name": "web-1"}) }), true},
		"LabelsOfNew":         {"an update that adds the label is seen", `labelSelector: {matchLabels: {app: web}}`, pod(func(r *policy.Review) { r.OldObject = metadata(object{"name": "web-1"}) }), true},
		"NeitherObject":       {"the clauses must hold for one object, not one each", "name: other\nlabelSelector: {matchLabels: {app: web}}", pod(func(r *policy.Review) { r.OldObject = metadata(object{"name": "other"}) }), false},

		"NamespaceLabels":        {"the namespace has the label", `namespaceSelector: {matchLabels: {tier: gold}}`, pod(), true},
		"NamespaceLabelsDiffer":  {"the namespace has not", `namespaceSelector: {matchLabels: {tier: lead}}`, pod(), false},
		"NamespaceLabelsOwn":     {"a Namespace goes by its own labels", `namespaceSelector: {matchLabels: {tier: gold}}`, namespace("n", "tier", "gold"), true},
		"NamespaceLabelsOwnNo":   {"a Namespace goes by its own labels", `namespaceSelector: {matchLabels: {tier: gold}}`, namespace("n"), false},
		"NamespaceLabelsCluster": {"other cluster-scoped objects always match", `namespaceSelector: {matchLabels: {tier: gold}}`, clusterRole("r"), true},
		"NamespaceLabelsNone":    {"a known namespace may have no labels", `namespaceSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}`, pod(func(r *policy.Review) { r.NamespaceObject.Object = nil }), true},
		"NamespaceSelectorEmpty": {"a selector of everything needs no labels", `namespaceSelector: {}`, pod(unknownNamespace), true},

		"Name":               {"the name agrees", `name: web-1`, pod(), true},
		"NameDiffers":        {"the name differs", `name: web-2`, pod(), false},
		"NameGlob":           {"star at the end", `name: "web-*"`, pod(), true},
		"NameGlobStart":      {"star at the start", `name: "*-1"`, pod(), true},
		"NameEmpty":          {"an empty name is no clause", `name: ""`, pod(), true},
		"GenerateName":       {"the fixed part of a generated name", `name: "web-*"`, pod(func(r *policy.Review) { r.Name, r.Object = "", metadata(object{"generateName": "web-x-"}) }), true},
		"GenerateNameBoth":   {"both ends open", `name: "*eb*"`, pod(func(r *policy.Review) { r.Name, r.Object = "", metadata(object{"generateName": "web-"}) }), true},
		"GenerateNameSuffix": {"the end is not known yet", `name: "*-"`, pod(func(r *policy.Review) { r.Name, r.Object = "", metadata(object{"generateName": "web-"}) }), false},
		"GenerateNameExact":  {"a generated name is never equal to its beginning", `name: "web-"`, pod(func(r *policy.Review) { r.Name, r.Object = "", metadata(object{"generateName": "web-"}) }), false},

		"SourceDefault":       {"no source asks for all", ``, pod(func(r *policy.Review) { r.Source = policy.SourceGenerated }), true},
		"SourceAll":           {"All", `source: All`, pod(func(r *policy.Review) { r.Source = policy.SourceGenerated }), true},
		"SourceOriginal":      {"Original", `source: Original`, pod(func(r *policy.Review) { r.Source = policy.SourceOriginal }), true},
		"SourceOriginalEmpty": {"an unset source is original", `source: Original`, pod(), true},
		"SourceOriginalNo":    {"a generated object is not original", `source: Original`, pod(func(r *policy.Review) { r.Source = policy.SourceGenerated }), false},
		"SourceGenerated":     {"Generated", `source: Generated`, pod(func(r *policy.Review) { r.Source = policy.SourceGenerated }), true},
		"SourceGeneratedNo":   {"an unset source is not generated", `source: Generated`, pod(), false},

		"NoObject":       {"a request without an object goes by what it says", "name: web-1\nnamespaces: [shop]\nscope: Namespaced\nnamespaceSelector: {matchLabels: {tier: gold}}", pod(func(r *policy.Review) { r.Object = nil }), true},
		"NoObjectLabels": {"and has no labels", `labelSelector: {matchLabels: {app: web}}`, pod(func(r *policy.Review) { r.Object = nil }), false},
		"Options":        {"the options of a CONNECT go by the request's name", "kinds: [{apiGroups: [\"\"], kinds: [PodExecOptions]}]\nname: web-1", pod(func(r *policy.Review) { r.Kind, r.Object = kind("", "PodExecOptions"), object{"command": []any{"sh"}} }), true},
		"MetadataNoMap":  {"metadata that is no object says nothing", `name: web-1`, pod(func(r *policy.Review) { r.Object = object{"metadata": "x"} }), true},
		"AllClauses":     {"all clauses hold", "kinds: [{apiGroups: [\"\"], kinds: [Pod]}]\nscope: Namespaced\nnamespaces: [shop]\nexcludedNamespaces: [x]\nlabelSelector: {matchLabels: {app: web}}\nnamespaceSelector: {matchLabels: {tier: gold}}\nname: \"web-*\"\nsource: Original", pod(), true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := compile(t, tc.match).Match(&tc.review)
			if err != nil {
				t.Fatalf("%s: Match: %v", tc.reason, err)
			}
			if got != tc.want {
				t.Errorf("%s: Match = %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
}

func TestMatchUnknownNamespace(t *testing.T) {
	const gold = "namespaceSelector: {matchLabels: {tier: gold}}\n"
	cases := map[string]struct {
		reason    string
		match     string
		review    policy.Review
		want      bool
		undecided bool
	}{
		"Needed":       {"nothing else excludes the object", gold, pod(unknownNamespace), false, true},
		"NotNeeded":    {"no namespaceSelector", `namespaces: [shop]`, pod(unknownNamespace), true, false},
		"OtherKind":    {"the kind excludes it", gold + `kinds: [{kinds: [Service]}]`, pod(unknownNamespace), false, false},
		"OtherScope":   {"the scope excludes it", gold + `scope: Cluster`, pod(unknownNamespace), false, false},
		"OtherPlace":   {"the namespace excludes it", gold + `excludedNamespaces: [shop]`, pod(unknownNamespace), false, false},
		"OtherLabels":  {"the labels exclude it", gold + `labelSelector: {matchLabels: {app: db}}`, pod(unknownNamespace), false, false},
		"OtherName":    {"the name excludes it", gold + `name: x`, pod(unknownNamespace), false, false},
		"OtherSource":  {"the source excludes it", gold + `source: Generated`, pod(unknownNamespace), false, false},
		"Namespace":    {"a Namespace needs no other", gold, namespace("n", "tier", "gold"), true, false},
		"ClusterScope": {"a cluster-scoped object needs none", gold, clusterRole("r"), true, false},
		"OldUndecided": {
			"the new object is excluded, the old one is not", gold + `labelSelector: {matchLabels: {app: web}}`,
			pod(unknownNamespace, func(r *policy.Review) { r.OldObject, r.Object = r.Object, metadata(object{}) }), false, true,
		},
		"NewUndecided": {
			"the old object is excluded, the new one is not", gold + `labelSelector: {matchLabels: {app: web}}`,
			pod(unknownNamespace, func(r *policy.Review) { r.OldObject = metadata(object{}) }), false, true,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := compile(t, tc.match).Match(&tc.review)
			if got != tc.want || (err != nil) != tc.undecided {
				t.Fatalf("%s: Match = %t, %v, want %t, an error: %t", tc.reason, got, err, tc.want, tc.undecided)
			}
			if tc.undecided && !(strings.Contains(err.Error(), "spec.match.namespaceSelector") && strings.Contains(err.Error(), `"shop"`)) {
				t.Errorf("%s: error %q names not both the field and the namespace", tc.reason, err)
			}
		})
	}
}

func TestZeroMatcher(t *testing.T) {
	r := pod()
	for name, m := range map[string]*match.Matcher{"Nil": nil, "Zero": {}} {
		t.Run(name, func(t *testing.T) {
			if got, err := m.Match(&r); !got || err != nil {
				t.Errorf("Match = %t, %v, want true", got, err)
			}
			if m.Kinds() != nil || m.Scope() != "" || m.Namespaces() != nil {
				t.Errorf("%s matcher declares a restriction", name)
			}
		})
	}
}
