package rego

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/opa/v1/ast"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
)

// syncAnnotation lists the kinds that have to be in the inventory.
const syncAnnotation = "metadata.gatekeeper.sh/requires-sync-data"

var parametersRef = ast.MustParseRef("input.parameters")

// adviseReads is about what the Rego reads and the template does not tell. The
// first module is the entry point.
func adviseReads(t *templates.ConstraintTemplate, modules []*ast.Module) []Advice {
	first := firstReads(modules)
	var out []Advice
	if at, reads := first["inventory"]; reads && t.Annotations[syncAnnotation] == "" {
		out = append(out, advice(RuleSync, at, "say in the annotation "+syncAnnotation+" which kinds it reads",
			"it reads data.inventory, and nothing says what is to be in it"))
	}
	request := usesOf(modules).request()
	for _, field := range requestOnly {
		if at, reads := request[field]; reads && len(t.Spec.Targets[0].Operations) == 0 {
			out = append(out, advice(RuleAudit, at, "list the operations that it is for in spec.targets[0].operations, or judge by the object",
				"it reads input.review.%s, which audit does not have, and names no operations", field))
		}
	}
	// A library may know parameters that not all who bring it have.
	return append(out, adviseParameters(t, firstReads(modules[:1]))...)
}

// firstReads is where the modules first read the inventory and a parameter:
// "inventory" and "parameters.x".
func firstReads(modules []*ast.Module) map[string]*ast.Location {
	first := map[string]*ast.Location{}
	for _, m := range modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			switch {
			case !ok:
			case ref.HasPrefix(inventoryRef):
				note(first, "inventory", t.Location)
			case ref.HasPrefix(parametersRef):
				note(first, "parameters."+constant(ref, 2), t.Location)
			}
			return false
		})
	}
	return first
}

// adviseParameters wants every parameter that is read to be in the schema: a
// typing error in a constraint would otherwise go unseen.
func adviseParameters(t *templates.ConstraintTemplate, first map[string]*ast.Location) []Advice {
	described, open := parametersIn(t)
	if open {
		return nil
	}
	var names []string
	for key := range first {
		if name, found := strings.CutPrefix(key, "parameters."); found && name != "" && !described[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []Advice
	for _, name := range names {
		out = append(out, advice(RuleParameter, first["parameters."+name],
			"describe it in spec.crd.spec.validation.openAPIV3Schema.properties",
			"it reads input.parameters.%s, which the schema does not have", name))
	}
	return out
}

// parametersIn are the parameters that the schema has, and whether it lets in
// others.
func parametersIn(t *templates.ConstraintTemplate) (map[string]bool, bool) {
	out := map[string]bool{}
	v := t.Spec.CRD.Spec.Validation
	if v == nil || v.OpenAPIV3Schema == nil {
		return out, false
	}
	s := v.OpenAPIV3Schema
	for name := range s.Properties {
		out[name] = true
	}
	return out, isTrue(s.XPreserveUnknownFields) && len(s.Properties) == 0 || allows(s.AdditionalProperties)
}

func isTrue(b *bool) bool { return b != nil && *b }

func allows(s *apiextensions.JSONSchemaPropsOrBool) bool {
	return s != nil && (s.Allows || s.Schema != nil)
}
