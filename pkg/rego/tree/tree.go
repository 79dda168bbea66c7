// Package tree keeps the objects that referential policies read: one immutable
// document of decoded JSON, of which every change makes a new version that
// shares all but the changed path. Evaluations read the version they began
// with, without locks and without converting it.
package tree

import (
	"context"
	"fmt"

	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// Tree is a document that changes. It is safe for concurrent use; readers never
// wait.
type Tree struct {
	mu   sync.Mutex // held by writers
	root atomic.Pointer[Map]
}

// New returns a tree that holds the empty object.
func New() *Tree {
	t := &Tree{}
	t.root.Store(&Map{})
	return t
}

// Root returns the document as it is now.
func (t *Tree) Root() *Map { return t.root.Load() }

// Put stores doc, decoded JSON that must not change from then on, at path. What
// lies in the way and is no object is an error.
func (t *Tree) Put(path []string, doc any) error {
	if len(path) == 0 {
		return fmt.Errorf("storing a document: the path is empty")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	root, err := put(t.root.Load(), path, doc)
	if err != nil {
		return fmt.Errorf("storing a document at %q: %w", path, err)
	}
	t.root.Store(root)
	return nil
}

func put(m *Map, path []string, doc any) (*Map, error) {
	if len(path) == 1 {
		return m.With(path[0], doc), nil
	}
	below := &Map{}
	if v, found := m.Get(path[0]); found {
		var ok bool
		if below, ok = mapOf(v); !ok {
			return nil, fmt.Errorf("%q holds no object", path[0])
		}
	}
	below, err := put(below, path[1:], doc)
	if err != nil {
		return nil, err
	}
	return m.With(path[0], below), nil
}

// Edit says what is to lie at a path: an object with these documents by key, or
// nothing if there are none; objects above that are empty then go too. The
// documents must not change from then on.
type Edit struct {
	Path    []string
	Objects map[string]any
}

// Apply makes all edits, in order, or none. Readers see them all at once.
func (t *Tree) Apply(edits []Edit) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	root := t.root.Load()
	for _, e := range edits {
		if len(e.Path) == 0 {
			return fmt.Errorf("replacing documents: the path is empty")
		}
		if len(e.Objects) == 0 {
			root = remove(root, e.Path, true)
			continue
		}
		objects, _ := mapOf(e.Objects)
		var err error
		if root, err = put(root, e.Path, objects); err != nil {
			return fmt.Errorf("replacing the documents at %q: %w", e.Path, err)
		}
	}
	t.root.Store(root)
	return nil
}

// Get returns what lies at path.
func (t *Tree) Get(path []string) (any, bool) {
	var at any = t.root.Load()
	for _, step := range path {
		m, ok := at.(value.Mapping)
		if !ok {
			return nil, false
		}
		if at, ok = m.Get(step); !ok {
			return nil, false
		}
	}
	return at, true
}

// mapOf makes a Map of an object that is none yet.
func mapOf(v any) (*Map, bool) {
	switch v := v.(type) {
	case *Map:
		return v, true
	case map[string]any:
		m := &Map{}
		for k, e := range v {
			m = m.With(k, e)
		}
		return m, true
	}
	return nil, false
}

// Remove deletes what lies at path. Deleting what is not there does nothing.
// The objects above stay, though they may be empty.
func (t *Tree) Remove(path []string) {
	if len(path) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.root.Store(remove(t.root.Load(), path, false))
}

func remove(m *Map, path []string, prune bool) *Map {
	if len(path) == 1 {
		return m.Without(path[0])
	}
	v, found := m.Get(path[0])
	if !found {
		return m
	}
	below, ok := mapOf(v)
	if !ok {
		return m
	}
	rest := remove(below, path[1:], prune)
	if rest == below {
		return m
	}
	if prune && rest.Len() == 0 {
		return m.Without(path[0])
	}
	return m.With(path[0], rest)
}

// View is one version of a document as the read-only store that OPA's
// interpreter wants.
type View struct {
	storage.WritesNotSupported
	storage.TriggersNotSupported
	storage.PolicyNotSupported

	root *Map
}

var _ storage.Store = View{}

// NewView returns a view of the document root.
func NewView(root *Map) View { return View{root: root} }

type transaction struct{}

func (transaction) ID() uint64 { return 1 }

// NewTransaction returns a transaction that reads what the view shows.
func (View) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return transaction{}, nil
}

// Commit does nothing.
func (View) Commit(context.Context, storage.Transaction) error { return nil }

// Abort does nothing.
func (View) Abort(context.Context, storage.Transaction) {}

// Truncate is not supported.
func (View) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

// Read returns the ast.Value at path.
func (v View) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	var at any = v.root
	var last *entry
	for _, step := range path {
		var found bool
		if at, last, found = child(at, step); !found {
			return nil, &storage.Error{Code: storage.NotFoundErr, Message: path.String() + ": document does not exist"}
		}
	}
	return termAt(at, last).Value, nil
}

func termAt(at any, last *entry) *ast.Term {
	if m, ok := at.(*Map); ok {
		return m.Term()
	}
	if last != nil {
		return last.asTerm()
	}
	return value.Term(value.Defined(at))
}

// child is what lies below a document; e is its entry, if the document has
// entries.
func child(at any, step string) (v any, e *entry, found bool) {
	switch at := at.(type) {
	case *Map:
		if e := at.entry(step); e != nil {
			return e.value, e, true
		}
	case map[string]any:
		v, found := at[step]
		return v, nil, found
	case []any:
		i, ok := util.Atoi(step)
		if ok && i >= 0 && i < len(at) {
			return at[i], nil, true
		}
	}
	return nil, nil, false
}
