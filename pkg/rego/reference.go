package rego

import (
	"slices"
	"sync"
)

// MaxReferences is for how many compiled templates the interpreter's program,
// some hundred kilobytes each, is kept.
const MaxReferences = 8

// references keeps the interpreter's programs of the compiled templates that
// needed it last: for a policy's error, which it words, and for checks. The
// zero value is empty.
type references struct {
	mu   sync.Mutex
	last []reference // the last used first
	lent reference   // beside them: to a check that goes through many
}

type reference struct {
	program *Program
	get     func() (*topdownProgram, error)
}

// of returns the interpreter's program of p, made now if need be.
func (r *references) of(p *Program) (*topdownProgram, error) { return r.enter(p).get() }

func (r *references) enter(p *Program) reference {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.last, func(x reference) bool { return x.program == p })
	found := reference{p, sync.OnceValues(p.compileReference)}
	if i >= 0 {
		found = r.last[i]
		r.last = slices.Delete(r.last, i, i+1)
	}
	r.last = slices.Insert(r.last, 0, found)
	r.last = r.last[:min(len(r.last), MaxReferences)]
	return found
}

// lend is of for who goes through more programs than are kept: it takes the place
// of none but the one that was lent before.
func (r *references) lend(p *Program) (*topdownProgram, error) {
	r.mu.Lock()
	found := r.lent
	if i := slices.IndexFunc(r.last, func(x reference) bool { return x.program == p }); i >= 0 {
		found = r.last[i]
	} else if found.program != p {
		found = reference{p, sync.OnceValues(p.compileReference)}
		r.lent = found
	}
	r.mu.Unlock()
	return found.get()
}

// giveBack forgets what was lent.
func (r *references) giveBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lent = reference{}
}

// drop forgets a program.
func (r *references) drop(p *Program) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = slices.DeleteFunc(r.last, func(x reference) bool { return x.program == p })
}

// compileReference compiles what has compiled before.
func (p *Program) compileReference() (*topdownProgram, error) {
	c, err := compileSource(p.source, false)
	if err != nil {
		return nil, err
	}
	return interpret(c)
}
