package rego

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Reads is what of a review a template's code may read, judged by its text. It
// may say too much; too little only of code that hands the review on and makes
// the names of what it reads when it runs.
type Reads struct {
	// Namespace is the Namespace object that the reviewed object lives in.
	Namespace bool
	// Request is what only a request has, sorted: of "dryRun", "oldObject",
	// "operation", "options", "requestKind", "requestResource",
	// "requestSubResource" and "userInfo". Audit, which has no request, sees
	// them empty.
	Request []string
	// Object are the paths of the reviewed object below which it reads, each once;
	// an empty one stands for all of it.
	Object [][]string
}

// MayReadObject tells whether the code may read what lies at a path of the
// reviewed object.
func (r Reads) MayReadObject(path ...string) bool {
	return slices.ContainsFunc(r.Object, func(read []string) bool {
		n := min(len(read), len(path))
		return slices.Equal(read[:n], path[:n])
	})
}

// requestOnly are the fields of input.review that only a request has, sorted.
var requestOnly = []string{
	"dryRun", "oldObject", "operation", "options", "requestKind", "requestResource", "requestSubResource", "userInfo",
}

var inputRef = ast.Ref{ast.InputRootDocument}

// readsOf tells what the modules read, as they are before the compiler gives all
// that is handed to a function another name.
func readsOf(modules map[string]*ast.Module) Reads {
	u := usesOf(slices.Collect(maps.Values(modules)))
	request := u.request()
	out := Reads{Namespace: u.namespace || u.escapes, Object: u.objects}
	if u.escapes || u.replaced || u.computed != nil {
		out.Object = [][]string{{}}
	}
	for _, field := range requestOnly { // not the keys, which keep the text that they are of
		if _, reads := request[field]; reads {
			out.Request = append(out.Request, field)
		}
	}
	return out
}

// uses is what modules do with the review.
type uses struct {
	packages []ast.Ref
	// replaced tells that some code sees an input that other code made.
	replaced bool
	// direct are the fields that are read of input.review by their names, and
	// where they are first.
	direct map[string]*ast.Location
	// named are those whose names stand elsewhere: as a step of a reference or
	// as a text. They are fields of the review if escapes tells that it, or the
	// whole input, is handed on.
	named   map[string]*ast.Location
	escapes bool
	// computed is where a field is read whose name is not known.
	computed  *ast.Location
	namespace bool
	// objects are the paths that are read of the reviewed object.
	objects [][]string
}

func usesOf(modules []*ast.Module) *uses {
	u := &uses{direct: map[string]*ast.Location{}, named: map[string]*ast.Location{}}
	for _, m := range modules {
		u.packages = append(u.packages, m.Package.Path)
		ast.WalkWiths(m, func(w *ast.With) bool {
			target, ok := w.Target.Value.(ast.Ref)
			u.replaced = u.replaced || ok && target.HasPrefix(inputRef)
			return false
		})
	}
	for _, m := range modules {
		for _, rule := range m.Rules {
			u.walk(rule)
		}
	}
	return u
}

// request is where what only a request has is first read, by field.
func (u *uses) request() map[string]*ast.Location {
	out := maps.Clone(u.direct)
	if u.escapes {
		for field, at := range u.named {
			note(out, field, at)
		}
	}
	if len(out) == 0 && u.computed != nil {
		for _, field := range requestOnly {
			out[field] = u.computed
		}
	}
	return out
}

func note(first map[string]*ast.Location, field string, at *ast.Location) {
	if _, known := first[field]; !known {
		first[field] = at
	}
}

func (u *uses) walk(x any) { ast.NewGenericVisitor(u.visit).Walk(x) }

// visit tells whether all of x has been looked at.
func (u *uses) visit(x any) bool {
	switch x := x.(type) {
	case *ast.Head:
		u.steps(x.Reference, len(x.Reference))
	case *ast.Expr:
		if !x.IsCall() {
			return false
		}
		u.call(x.Operator(), x.Operands())
		for _, w := range x.With {
			u.walk(w)
		}
		return true
	case *ast.With:
		u.walk(x.Value) // what is replaced is not read
		return true
	case *ast.Term:
		return u.term(x)
	}
	return false
}

func (u *uses) term(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Call:
		operator, _ := v[0].Value.(ast.Ref)
		u.call(operator, v[1:])
		return true
	case ast.Ref:
		u.ref(v, t.Location)
		return true
	case ast.Var:
		u.escapes = u.escapes || v.Equal(ast.InputRootDocument.Value)
	case ast.String:
		u.name(string(v), t.Location)
	}
	return false
}

// name notes a text that names a field, also as the beginning of a path such as
// json.filter takes.
func (u *uses) name(text string, at *ast.Location) {
	field, rest, _ := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	if field == "review" {
		field, _, _ = strings.Cut(rest, "/")
	}
	if slices.Contains(requestOnly, field) {
		note(u.named, field, at)
	}
}

// call looks at what is handed to a function. object.get with a key that is
// known is no more than a reference.
func (u *uses) call(operator ast.Ref, operands []*ast.Term) {
	if len(operands) >= 3 && operator.String() == "object.get" {
		if ref := extended(operands[0], operands[1]); ref != nil {
			u.ref(ref, operands[1].Location)
			operands = operands[2:]
		}
	}
	for _, t := range operands {
		u.walk(t)
	}
}

// extended is the reference to what lies in the input at a key, or at an array of
// keys; nil if of is no part of the input or the key is not known.
func extended(of, key *ast.Term) ast.Ref {
	ref, ok := of.Value.(ast.Ref)
	if of.Equal(ast.InputRootDocument) {
		ref, ok = inputRef, true
	}
	if !ok || !ref.HasPrefix(inputRef) {
		return nil
	}
	switch v := key.Value.(type) {
	case ast.String:
		return ref.Append(key)
	case *ast.Array:
		for i := range v.Len() {
			if _, known := v.Elem(i).Value.(ast.String); !known {
				return nil
			}
			ref = ref.Append(v.Elem(i))
		}
		return ref
	}
	return nil
}

func (u *uses) ref(ref ast.Ref, at *ast.Location) {
	from := 1
	switch {
	case ref.HasPrefix(inputRef):
		u.input(ref, at)
		if constant(ref, 1) != "" && !u.replaced {
			from = len(ref) // it is known what lies there
		}
	case ref.HasPrefix(inventoryRef):
		from = len(ref)
	case ref.HasPrefix(ast.DefaultRootRef):
		from = u.afterRule(ref)
	}
	u.steps(ref, from)
}

// input notes what a reference reads of the input.
func (u *uses) input(ref ast.Ref, at *ast.Location) {
	switch root := constant(ref, 1); {
	case root != "" && root != "review":
		return
	case root == "" || len(ref) == 2:
		u.escapes = true
	}
	if len(ref) == 2 {
		return
	}
	switch field := constant(ref, 2); {
	case len(ref) == 1:
	case field == "":
		u.escapes, u.computed = true, at
	case field == "namespaceObject":
		u.namespace = true
	case field == "object":
		u.object(ref[3:])
	case slices.Contains(requestOnly, field):
		note(u.direct, field, at)
	}
}

// object notes what a reference reads of the reviewed object, as far as its steps
// are known.
func (u *uses) object(steps ast.Ref) {
	path := []string{}
	for _, t := range steps {
		text, known := t.Value.(ast.String)
		if !known {
			break
		}
		path = append(path, string(text))
	}
	if !slices.ContainsFunc(u.objects, func(p []string) bool { return slices.Equal(p, path) }) {
		u.objects = append(u.objects, path)
	}
}

// afterRule is where the steps of a reference to a rule begin that read in what
// the rule is.
func (u *uses) afterRule(ref ast.Ref) int {
	from := 1
	for _, p := range u.packages {
		if ref.HasPrefix(p) {
			from = max(from, len(p)+1)
		}
	}
	return min(from, len(ref))
}

// steps looks at the steps of a reference. Those before from that are texts are
// not names of fields.
func (u *uses) steps(ref ast.Ref, from int) {
	for i, t := range ref {
		_, text := t.Value.(ast.String)
		_, variable := t.Value.(ast.Var)
		if text && i < from || variable && i == 0 {
			continue
		}
		u.walk(t)
	}
}
