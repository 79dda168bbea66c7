package rego

import (
	"cmp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// InventoryRead is one place in a template's code that reads data.inventory:
// objects of this kind in this group and version, as "apps/v1". What is empty
// is not known before the policy runs.
type InventoryRead struct{ GroupVersion, Kind string }

// inventoryReads finds the references to data.inventory, whose objects lie at
// cluster[groupVersion][kind][name] and namespace[namespace][groupVersion][kind][name].
func inventoryReads(c *ast.Compiler) []InventoryRead {
	root := ast.MustParseRef(inventoryRoot)
	var out []InventoryRead
	for _, m := range c.Modules {
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			if ref.HasPrefix(root) {
				out = append(out, inventoryRead(ref[len(root):]))
			}
			return false
		})
	}
	slices.SortFunc(out, func(a, b InventoryRead) int {
		return cmp.Or(cmp.Compare(a.GroupVersion, b.GroupVersion), cmp.Compare(a.Kind, b.Kind))
	})
	return slices.Compact(out)
}

// inventoryRead is what a reference below data.inventory reads.
func inventoryRead(below ast.Ref) InventoryRead {
	switch constant(below, 0) {
	case "cluster":
		return InventoryRead{constant(below, 1), constant(below, 2)}
	case "namespace":
		return InventoryRead{constant(below, 2), constant(below, 3)}
	}
	return InventoryRead{}
}

// constant is the step of a reference at i if it is a text, else empty.
func constant(ref ast.Ref, i int) string {
	if i >= len(ref) {
		return ""
	}
	text, _ := ref[i].Value.(ast.String)
	return string(text)
}
