package webhook

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// unenforceable returns warnings of what a constraint asks for by name and the
// perimeter keeps from the webhook. Its condition Enforced says so too, and
// knows more; a warning is seen by whoever applies it.
func unenforceable(constraint *unstructured.Unstructured, p exempt.Perimeter) []string {
	var out []string
	who := fmt.Sprintf("%s %q", constraint.GetKind(), constraint.GetName())
	if kinds := criticalKinds(constraint, p); len(kinds) > 0 {
		out = append(out, fmt.Sprintf("%s is not enforced on %s: the cluster depends on such requests, which are never sent to Fusegate; they are audited",
			who, shorten(kinds)))
	}
	namespaces, _, _ := unstructured.NestedStringSlice(constraint.Object, "spec", "match", "namespaces")
	if len(namespaces) > 0 && !slices.ContainsFunc(namespaces, func(n string) bool { return !p.ExemptNamespace(n) }) {
		out = append(out, fmt.Sprintf("%s is not enforced: its namespaces, %s, are outside policy; they are audited", who, shorten(namespaces)))
	}
	return out
}

// shorten lists some names.
func shorten(names []string) string {
	const some = 8
	if len(names) <= some {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:some], ", "), len(names)-some)
}

// maxGuesses bounds the kinds that are looked at for a warning: a match block may
// name a million pairs of a group and a kind, and an answer is waited for.
const maxGuesses = 10_000

// criticalKinds lists the kinds that a match block names whose resources are
// outside policy, wherever they are and whoever writes them. A kind's resource
// is guessed, as there is no discovery here: right for the kinds that there are.
func criticalKinds(constraint *unstructured.Unstructured, p exempt.Perimeter) []string {
	entries, _, _ := unstructured.NestedSlice(constraint.Object, "spec", "match", "kinds")
	var out []string
	guesses := 0
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		groups, _, _ := unstructured.NestedStringSlice(entry, "apiGroups")
		kinds, _, _ := unstructured.NestedStringSlice(entry, "kinds")
		for _, group := range groups {
			for _, kind := range kinds {
				if guesses++; guesses > maxGuesses {
					break
				}
				gvk := schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind}
				plural, _ := meta.UnsafeGuessKindToResource(gvk)
				if group != "*" && kind != "*" && !p.Enforceable(plural.GroupResource(), "") {
					out = append(out, strings.TrimSuffix(kind+"."+group, "."))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
