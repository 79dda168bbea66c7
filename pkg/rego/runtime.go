// Package rego compiles the Rego of templates and evaluates reviews by it: a
// template's source becomes a program once, a constraint's parameters become a
// value once, and a review is converted once however many templates read it. It
// is the only package that imports OPA.
//
// The constraint framework's Rego driver is not used; it parses its query again
// for every template of every request and turns a policy's run-time error into
// a violation. Here such an error is a fault of the one constraint that erred.
package rego

import (
	"context"
	"errors"
	"sync"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego/schema"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"

	"github.com/fusegate/fusegate/pkg/rego/tree"
)

// EngineName is how templates name Rego among the engines of their code.
const EngineName = schema.Name

// Runtime compiles programs and holds what they share: the data that they read,
// and the interpreter's programs of those that need it. It is safe for
// concurrent use; no lock of its own is held while a policy is evaluated.
type Runtime struct {
	data        *tree.Tree
	interpreted bool
	references  references
	// compiling keeps compilers, which make a lot of garbage, one after the other.
	compiling sync.Mutex
	compiler  Compiler
	checking  chan struct{} // holds one while a template is checked by the compiler
	observer  Observer
}

// New returns a runtime without data.
func New() *Runtime {
	return &Runtime{data: tree.New(), observer: unobserved{}, checking: make(chan struct{}, 1)}
}

// NewReference returns a runtime that runs every template by OPA's interpreter,
// to compare with.
func NewReference() *Runtime {
	r := New()
	r.interpreted = true
	return r
}

// Observe sets who is told what goes on. It is to be called before the first
// template is compiled.
func (r *Runtime) Observe(o Observer) { r.observer = o }

// CheckTemplate compiles a template's Rego without keeping the result. Its
// errors are Diagnostics.
func CheckTemplate(t *templates.ConstraintTemplate) error {
	source, err := regoSource(t)
	if err != nil {
		return err
	}
	c, err := compileSource(source, false)
	if err != nil {
		return err
	}
	_, err = interpret(c)
	return err
}

// Compile makes the program of t, which its caller is to Forget when it is not
// used any more. Where the runtime has a compiler, Try comes first: nothing bounds
// what is done here. Its errors are Diagnostics.
func (r *Runtime) Compile(ctx context.Context, t *templates.ConstraintTemplate) (*Program, error) {
	r.compiling.Lock()
	program, err := compile(ctx, t)
	r.compiling.Unlock()
	if err != nil {
		return nil, err
	}
	if r.interpreted {
		reference, err := program.interpreter()
		if err != nil {
			return nil, err
		}
		program.refuse(errReference, reference)
	}
	program.references, program.observer = &r.references, r.observer
	return program, nil
}

// errReference is why a runtime for comparison interprets.
var errReference = errors.New("all templates are to be interpreted")

// Forget gives up what is kept for a program.
func (r *Runtime) Forget(p *Program) { r.references.drop(p) }

// Checked forgets what a series of CheckOneOfMany needed.
func (r *Runtime) Checked() { r.references.giveBack() }

// AddData stores document, which is decoded JSON and from then on the runtime's,
// at data.inventory followed by path.
func (r *Runtime) AddData(path []string, document any) error {
	return r.data.Put(inventoryPath(path), document)
}

// RemoveData deletes what lies at path. Deleting what is not there is no error.
func (r *Runtime) RemoveData(path []string) { r.data.Remove(inventoryPath(path)) }

// Edit says what is to lie at a path below data.inventory: an object with these
// documents by key, or nothing if there are none. The documents are decoded
// JSON and the runtime's from then on.
type Edit = tree.Edit

// UpdateData makes all edits at once. An error means that it made none.
func (r *Runtime) UpdateData(edits []Edit) error {
	below := make([]Edit, len(edits))
	for i, e := range edits {
		below[i] = Edit{Path: inventoryPath(e.Path), Objects: e.Objects}
	}
	return r.data.Apply(below)
}

// GetData returns what lies at path. It must not be modified.
func (r *Runtime) GetData(path []string) (any, bool) { return r.data.Get(inventoryPath(path)) }

// Data returns the data document as it is now.
func (r *Runtime) Data() *Data { return &Data{root: r.data.Root()} }

func inventoryPath(path []string) []string { return append([]string{"inventory"}, path...) }
