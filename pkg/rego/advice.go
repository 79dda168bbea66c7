package rego

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/opa/v1/ast"
)

// The rules of Advise.
const (
	RuleStrict     = "strict"
	RuleDeprecated = "deprecated-builtin"
	RuleMessage    = "missing-msg"
	RuleInventory  = "unbounded-inventory"
	RuleAudit      = "audit-blind"
	RuleSync       = "no-sync-data"
	RuleParameter  = "undescribed-parameter"
)

// Advice is something in a template's Rego that compiles and is better written
// otherwise.
type Advice struct {
	// Rule is the stable identifier of what was looked for.
	Rule    string
	Message string
	// Fix says what to do.
	Fix string
	// Location is as in Diagnostic.
	Location string
}

// Advise looks for what compiles and will trouble its users all the same. Its
// errors are those of CheckTemplate.
func Advise(t *templates.ConstraintTemplate) ([]Advice, error) {
	if err := CheckTemplate(t); err != nil {
		return nil, err
	}
	src, err := regoSource(t)
	if err != nil {
		return nil, err
	}
	entry, libs, err := parse(src)
	if err != nil {
		return nil, err
	}
	var out []Advice
	for _, m := range append([]*ast.Module{entry}, libs...) {
		out = append(append(out, adviseDeprecated(m)...), adviseInventory(m)...)
	}
	out = append(append(out, adviseMessages(entry)...), adviseStrict(entry, libs)...)
	out = append(out, adviseReads(t, append([]*ast.Module{entry}, libs...))...)
	return out, nil
}

func advice(rule string, l *ast.Location, fix, format string, args ...any) Advice {
	return Advice{Rule: rule, Message: fmt.Sprintf(format, args...), Fix: fix, Location: location(l)}
}

// adviseStrict is what OPA's compiler objects to in strict mode only.
func adviseStrict(entry *ast.Module, libs []*ast.Module) []Advice {
	modules := map[string]*ast.Module{"rego": entry}
	for i, lib := range libs {
		modules[fmt.Sprintf("libs[%d]", i)] = lib
	}
	c := ast.NewCompiler().WithCapabilities(capabilities()).WithStrict(true)
	c.SetErrorLimit(0)
	c.Compile(modules)
	var out []Advice
	for _, e := range c.Errors {
		if strings.Contains(e.Message, "deprecated built-in") {
			continue // adviseDeprecated tells of it
		}
		out = append(out, advice(RuleStrict, e.Location, strictFix(e.Message), "%s", e.Message))
	}
	return out
}

func strictFix(message string) string {
	switch {
	case strings.Contains(message, "import"):
		return "remove the import"
	case strings.Contains(message, "unused"):
		return "remove it, or write _ where a variable has to stand"
	}
	return "rename it"
}

// replacements say what to write for builtins that are deprecated.
var replacements = map[string]string{
	"any": "a comprehension or an auxiliary rule", "all": "every, or a negated auxiliary rule",
	"re_match": "regex.match", "set_diff": "the operator -", "net.cidr_overlap": "net.cidr_contains",
	"cast_array": "a comprehension", "cast_set": "a comprehension", "cast_string": "is_string",
	"cast_boolean": "is_boolean", "cast_null": "is_null", "cast_object": "is_object",
}

func adviseDeprecated(m *ast.Module) []Advice {
	var out []Advice
	report := func(name string, l *ast.Location) {
		b := ast.BuiltinMap[name]
		if b == nil || !b.IsDeprecated() {
			return
		}
		instead := replacements[name]
		if instead == "" {
			instead = "what OPA's documentation names in its place"
		}
		out = append(out, advice(RuleDeprecated, l, "use "+instead, "the builtin %s is deprecated and no longer part of Rego v1", name))
	}
	visitor := ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			if x.IsCall() {
				report(x.Operator().String(), x.Location)
			}
		case *ast.Term:
			if call, ok := x.Value.(ast.Call); ok {
				report(call[0].String(), x.Location)
			}
		}
		return false
	})
	visitor.Walk(m)
	return out
}

// adviseMessages wants every violation to say a message: one without is a fault
// of its constraint.
func adviseMessages(m *ast.Module) []Advice {
	const fix = `report by violation[{"msg": msg}], where msg is text that says what is wrong`
	var out []Advice
	for _, r := range m.Rules {
		if ruleName(r) != entryRule {
			continue
		}
		switch {
		case r.Head.Key == nil:
			out = append(out, advice(RuleMessage, r.Location, fix, "%s is no set of objects with a msg", entryRule))
		case lacksMessage(r, r.Head.Key):
			out = append(out, advice(RuleMessage, r.Head.Key.Location, fix, "this violation has no msg"))
		}
	}
	return out
}

func ruleName(r *ast.Rule) string {
	if len(r.Head.Reference) > 0 {
		if v, ok := r.Head.Reference[0].Value.(ast.Var); ok {
			return string(v)
		}
	}
	return string(r.Head.Name)
}

// lacksMessage tells whether what the rule reports is known to have no text as
// its msg. What a variable is bound to counts as far as the rule says it.
func lacksMessage(r *ast.Rule, t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Object:
		msg := v.Get(ast.StringTerm("msg"))
		if msg == nil {
			return true
		}
		switch msg.Value.(type) {
		case ast.Number, ast.Boolean, ast.Null, ast.Object, *ast.Array, ast.Set:
			return true
		}
		return false
	case ast.Var:
		bound := boundTo(r.Body, v)
		return bound != nil && lacksMessage(r, bound)
	case ast.Ref, ast.Call:
		return false
	}
	return true
}

// boundTo is what the body binds a variable to by := or =, nil if it does not.
func boundTo(body ast.Body, v ast.Var) *ast.Term {
	for _, e := range body {
		if !e.IsAssignment() && !e.IsEquality() {
			continue
		}
		a, b := e.Operand(0), e.Operand(1)
		if a.Value.Compare(v) == 0 && b.Value.Compare(v) != 0 {
			return b
		}
		if e.IsEquality() && b.Value.Compare(v) == 0 {
			return a
		}
	}
	return nil
}

// adviseInventory reports what goes through data.inventory whatever is in it:
// neither the group and version nor the kind is said.
func adviseInventory(m *ast.Module) []Advice {
	const fix = `name the group and version and the kind, as in data.inventory.namespace[ns]["apps/v1"].Deployment[name]`
	var out []Advice
	for _, r := range m.Rules {
		seen := map[int]bool{}
		ast.WalkTerms(r, func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			if !ok || !ref.HasPrefix(inventoryRef) || bounded(r, ref) || seen[t.Location.Row] {
				return false
			}
			seen[t.Location.Row] = true
			out = append(out, advice(RuleInventory, t.Location, fix,
				"%s goes through every kind in the inventory, so that its cost grows with the cluster", ref))
			return false
		})
	}
	return out
}

// bounded tells whether a reference below data.inventory says at least one of
// group and version, and kind.
func bounded(r *ast.Rule, ref ast.Ref) bool {
	if len(ref) < 3 {
		return false
	}
	first := 3 // of the elements that say group and version, and kind
	switch ref[2].Value.Compare(ast.String("cluster")) {
	case 0:
	default:
		if ref[2].Value.Compare(ast.String("namespace")) != 0 {
			return false
		}
		first = 4
	}
	if len(ref) < first+2 {
		// What stops short takes in all that is below it.
		return len(ref) == first+1 && fixed(r, ref[first])
	}
	return fixed(r, ref[first]) || fixed(r, ref[first+1])
}

// fixed tells whether an element of a reference has a value before the reference
// is looked up.
func fixed(r *ast.Rule, t *ast.Term) bool {
	v, ok := t.Value.(ast.Var)
	if !ok {
		return true
	}
	if v.IsWildcard() {
		return false
	}
	for _, arg := range r.Head.Args {
		if arg.Value.Compare(v) == 0 {
			return true
		}
	}
	return slices.ContainsFunc(bodies(r), func(b ast.Body) bool { return boundTo(b, v) != nil || iterates(b, v) })
}

// bodies are the rule's own and those of comprehensions in it.
func bodies(r *ast.Rule) []ast.Body {
	var out []ast.Body
	ast.WalkBodies(r, func(b ast.Body) bool {
		out = append(out, b)
		return false
	})
	return out
}

// iterates tells whether the body has "some v in".
func iterates(body ast.Body, v ast.Var) bool {
	for _, e := range body {
		some, ok := e.Terms.(*ast.SomeDecl)
		if !ok {
			continue
		}
		for _, s := range some.Symbols {
			if call, ok := s.Value.(ast.Call); ok {
				for _, arg := range call[1 : len(call)-1] {
					if arg.Value.Compare(v) == 0 {
						return true
					}
				}
			}
		}
	}
	return false
}
