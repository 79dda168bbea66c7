package rego

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

var (
	libRef       = ast.MustParseRef(libRoot)
	inventoryRef = ast.MustParseRef(inventoryRoot)
	futureRef    = ast.Ref{ast.VarTerm("future")}
)

// check reports, with their positions, the mistakes for which the framework's
// rewriter has only a text: imports and references that leave the sandbox,
// libraries outside package lib, and a missing entry rule.
func check(entry *ast.Module, libs []*ast.Module) error {
	var found Diagnostics
	if !hasRule(entry, entryRule) {
		found = append(found, at(entry.Package.Location, CodeEntry,
			"no rule named %s: a template's Rego reports through rules %s[{\"msg\": msg}]", entryRule, entryRule))
	}
	found = append(found, checkModule(entry)...)
	for _, lib := range libs {
		if path := lib.Package.Path; !path.HasPrefix(libRef) || len(path) == len(libRef) {
			found = append(found, at(lib.Package.Location, CodeSource,
				"package %s: a library's package must lie below lib, as in lib.units", lib.Package.Path))
		}
		found = append(found, checkModule(lib)...)
	}
	if len(found) > 0 {
		return found
	}
	return nil
}

func hasRule(m *ast.Module, name string) bool {
	for _, r := range m.Rules {
		if string(r.Head.Name) == name || (len(r.Head.Reference) > 0 && r.Head.Reference[0].Value.Compare(ast.Var(name)) == 0) {
			return true
		}
	}
	return false
}

func checkModule(m *ast.Module) Diagnostics {
	var found Diagnostics
	for _, imp := range m.Imports {
		ref, ok := imp.Path.Value.(ast.Ref)
		if ok && (ref.HasPrefix(libRef) || ref.HasPrefix(futureRef)) {
			continue
		}
		found = append(found, at(imp.Location, CodeImport,
			"bad import %s: templates may import %s.* and future.keywords only", imp.Path, libRoot))
	}
	for _, rule := range m.Rules {
		ast.WalkTerms(rule, func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			if ok && ref.HasPrefix(ast.DefaultRootRef) && !ref.HasPrefix(libRef) && !ref.HasPrefix(inventoryRef) {
				found = append(found, at(t.Location, CodeReference,
					"disallowed ref %s: templates may read %s.* and %s only", ref, libRoot, inventoryRoot))
			}
			return false
		})
	}
	return found
}

func at(l *ast.Location, code, format string, args ...any) Diagnostic {
	return Diagnostic{Code: code, Message: fmt.Sprintf(format, args...), Location: location(l)}
}
