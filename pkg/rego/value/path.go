package value

import "slices"

// Path is an array that shares its beginning with others: what walk gives for
// every value in a document. The nil path is empty.
type Path struct {
	parent *Path
	last   any
	length int
	elems  []any
}

// Append returns p with one more element.
func (p *Path) Append(v any) *Path { return &Path{parent: p, last: v, length: p.Len() + 1} }

// Len returns the number of elements.
func (p *Path) Len() int {
	if p == nil {
		return 0
	}
	return p.length
}

// Built tells whether the elements have been put together.
func (p *Path) Built() bool { return p == nil || p.elems != nil }

// Elems returns the elements, which are put together when they are first asked
// for. The slice is to be read only.
func (p *Path) Elems() []any {
	if p == nil {
		return nil
	}
	if p.elems == nil {
		elems := make([]any, 0, p.length)
		for at := p; at != nil; at = at.parent {
			elems = append(elems, at.last)
		}
		slices.Reverse(elems)
		p.elems = elems
	}
	return p.elems
}
