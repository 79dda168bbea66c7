// Package manifest reads Kubernetes objects from files, folders, standard input
// and kustomizations, one at a time, and remembers where each was written. It is
// the door through which the offline commands are fed: what it yields is what
// an API server would decode from the same text.
//
// Memory is bounded by the largest document, not by what is read: one document
// is decoded at a time, and nothing is kept but the names.
package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/output"
)

// Stdin is the path that stands for standard input, and what it is called in
// messages.
const (
	Stdin     = "-"
	stdinName = "stdin"
)

// Options say what to read. They are read in the order of the fields.
type Options struct {
	// Paths are files and folders, and Stdin. Folders are read with all that is
	// below them: files that end in .yaml, .yml or .json, in lexical order, and
	// symbolic links followed; what starts with a dot is left out.
	Paths []string
	// Kustomize are folders with a kustomization, which is built without plugins
	// and without network.
	Kustomize []string
	// Stdin is standard input; needed only if Paths asks for it.
	Stdin io.Reader
	// Want tells by the text of a document, or of an item of a list, whether it is
	// to be decoded at all; nil decodes everything. What is not wanted is neither
	// yielded nor checked.
	Want func(text []byte) bool
	// Note is told of what was left out, or taken as it is, and is no error: a
	// document in a folder that is no Kubernetes object, a name given twice. Nil
	// leaves it untold.
	Note func(output.Problem)
}

// ErrDuplicate is wrapped by the notes on a name that is given twice.
var ErrDuplicate = errors.New("is given twice")

// Read yields the objects in the order in which they are written. Lists are
// taken apart. What cannot be read comes as a Problem with the zero Object, and
// reading goes on with the next document; only the end of ctx ends it early, with
// an error that is no Problem. Objects are the caller's.
func Read(ctx context.Context, o Options) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		r := &reader{Options: o, yield: yield, ctx: ctx, seen: map[string]string{}}
		for _, path := range o.Paths {
			if !r.path(path) {
				return
			}
		}
		for _, dir := range o.Kustomize {
			if !r.kustomize(dir) {
				return
			}
		}
	}
}

// reader is one run of Read. Its methods that return a bool return whether to
// go on.
type reader struct {
	Options
	ctx   context.Context
	yield func(Object, error) bool
	// seen is where each object was first written, by what it is.
	seen map[string]string
}

// object yields one that was read.
func (r *reader) object(o Object) bool {
	r.remember(o)
	return r.yield(o, nil)
}

func (r *reader) problem(file string, line int, err error) bool {
	return r.yield(Object{}, output.Problem{File: file, Line: line, Err: err})
}

func (r *reader) note(file string, line int, format string, args ...any) {
	if r.Note != nil {
		r.Note(output.Problem{File: file, Line: line, Err: fmt.Errorf(format, args...)})
	}
}

// ended ends the run if the context has.
func (r *reader) ended() bool {
	if err := r.ctx.Err(); err != nil {
		r.yield(Object{}, fmt.Errorf("reading objects: %w", err))
		return true
	}
	return false
}

// remember notes when an object was written before.
func (r *reader) remember(o Object) {
	if o.GetName() == "" {
		return
	}
	gk := o.GroupVersionKind().GroupKind()
	key := gk.String() + "/" + o.GetNamespace() + "/" + o.GetName()
	if first, ok := r.seen[key]; ok {
		r.note(o.File, o.Line, "%s %w: it is also at %s", Name(o.Unstructured), ErrDuplicate, first)
		return
	}
	r.seen[key] = strings.Clone(o.Place())
}

// Name is how messages call an object: its kind, namespace and name.
func Name(u *unstructured.Unstructured) string {
	name := u.GetName()
	if name == "" {
		name = u.GetGenerateName()
	}
	if ns := u.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return u.GetKind() + " " + name
}
