package rego

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

// converter makes Rego values of decoded JSON. What ast.InterfaceToValue makes
// is equal; the converter allocates terms in blocks, and names of fields, which
// are the same in all objects, once.
type converter struct {
	// known are the names that the table had, fresh those to be added.
	known, fresh map[string]*ast.Term
	block        []ast.Term
	// pairs are the fields of the objects that are being converted, those of
	// an inner object behind those of the outer one.
	pairs [][2]*ast.Term
}

// blockTerms is how many terms are allocated at once.
const blockTerms = 128

// convert makes a Rego value of decoded JSON and leaves the names that it came
// across in the table.
func convert(value any, table *nameTable) (*ast.Term, error) {
	c := converter{known: table.snapshot()}
	t, err := c.term(value)
	if len(c.fresh) > 0 && len(c.known) < maxNames {
		table.add(c.fresh)
	}
	return t, err
}

func (c *converter) term(value any) (*ast.Term, error) {
	v, err := c.value(value)
	if err != nil {
		return nil, err
	}
	if len(c.block) == 0 {
		c.block = make([]ast.Term, blockTerms)
	}
	t := &c.block[0]
	c.block = c.block[1:]
	t.Value = v
	return t, nil
}

func (c *converter) value(value any) (ast.Value, error) {
	switch v := value.(type) {
	case map[string]any:
		return c.object(v)
	case []any:
		return c.array(v)
	}
	return ast.InterfaceToValue(value)
}

func (c *converter) object(fields map[string]any) (ast.Value, error) {
	if len(fields) == 0 {
		return ast.InternedEmptyObjectValue, nil
	}
	start := len(c.pairs)
	for name, field := range fields {
		t, err := c.term(field)
		if err != nil {
			return nil, err
		}
		c.pairs = append(c.pairs, ast.Item(c.name(name), t))
	}
	object := ast.NewObject(c.pairs[start:]...) // which copies them
	c.pairs = c.pairs[:start]
	return object, nil
}

func (c *converter) array(items []any) (ast.Value, error) {
	if len(items) == 0 {
		return ast.InternedEmptyArrayValue, nil
	}
	terms := make([]*ast.Term, len(items))
	for i, item := range items {
		t, err := c.term(item)
		if err != nil {
			return nil, err
		}
		terms[i] = t
	}
	return ast.NewArray(terms...), nil
}

// name returns the term of a field's name. It is shared: no term may be changed.
func (c *converter) name(name string) *ast.Term {
	if t, ok := c.known[name]; ok {
		return t
	}
	if t, ok := c.fresh[name]; ok {
		return t
	}
	t := ast.InternedTerm(name)
	if len(name) > maxNameLength {
		return t
	}
	if c.fresh == nil {
		c.fresh = map[string]*ast.Term{}
	}
	c.fresh[name] = t
	return t
}

// maxNames and maxNameLength, in bytes, bound a nameTable. Kubernetes has some
// thousand names of fields; the bounds keep out what users make up for labels,
// once there is enough of it, and whatever is long. The table is copied when a
// review brings names that are new, which ends when it is full.
const (
	maxNames      = 4096
	maxNameLength = 64
)

// nameTable holds terms of the names that fields of objects have had. It is
// safe for concurrent use: what was found is never changed, only replaced.
type nameTable struct {
	mu    sync.Mutex
	known atomic.Pointer[map[string]*ast.Term]
}

func (t *nameTable) snapshot() map[string]*ast.Term {
	if known := t.known.Load(); known != nil {
		return *known
	}
	return nil
}

// add keeps as many of the names as there is room for.
func (t *nameTable) add(names map[string]*ast.Term) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := maps.Clone(t.snapshot())
	if known == nil {
		known = map[string]*ast.Term{}
	}
	for name, term := range names {
		if len(known) >= maxNames {
			break
		}
		known[name] = term
	}
	t.known.Store(&known)
}
