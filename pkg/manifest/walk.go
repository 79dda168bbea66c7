package manifest

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var (
	errNoStdin   = errors.New("there is no standard input to read")
	errNotFile   = errors.New("is neither a file nor a folder")
	errNoObject  = errors.New("holds no Kubernetes object")
	errNoFolders = errors.New("holds no file that ends in .yaml, .yml or .json")
)

// path reads one of the paths that were asked for.
func (r *reader) path(path string) bool {
	if r.ended() {
		return false
	}
	if path == Stdin {
		return r.stdin()
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return r.problem(path, 0, plain(err))
	case info.IsDir():
		return r.root(path)
	case !info.Mode().IsRegular() && info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0:
		return r.problem(path, 0, errNotFile)
	}
	return r.file(path, true)
}

func (r *reader) stdin() bool {
	if r.Stdin == nil {
		return r.problem(stdinName, 0, errNoStdin)
	}
	return r.stream(stdinName, r.Stdin, true)
}

// root reads a folder that was asked for.
func (r *reader) root(dir string) bool {
	w := &walk{reader: r}
	if !w.folder(dir) {
		return false
	}
	if w.files == 0 {
		return r.problem(dir, 0, errNoFolders)
	}
	return true
}

// walk is the reading of one folder with all that is below.
type walk struct {
	*reader
	files int
	// open are the folders on the way from the root to here, read the ones that
	// are done: by their real names, since links lead to one by several.
	open, read []string
}

// folder reads the entries of a folder in lexical order.
func (w *walk) folder(dir string) bool {
	actual, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return w.problem(dir, 0, plain(err))
	}
	if cycle := slices.Contains(w.open, actual); cycle || slices.Contains(w.read, actual) {
		w.repeated(dir, actual, cycle)
		return true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return w.problem(dir, 0, plain(err))
	}
	w.open = append(w.open, actual)
	defer func() {
		w.open = w.open[:len(w.open)-1]
		w.read = append(w.read, actual)
	}()
	for _, e := range entries {
		if !w.entry(filepath.Join(dir, e.Name()), e) {
			return false
		}
	}
	return true
}

func (w *walk) repeated(dir, actual string, cycle bool) {
	if cycle {
		w.note(dir, 0, "not read again: this symbolic link leads back to %s, which it is in", actual)
		return
	}
	w.note(dir, 0, "not read again: it is the folder %s, which is read already", actual)
}

func (w *walk) entry(path string, e fs.DirEntry) bool {
	if w.ended() {
		return false
	}
	if strings.HasPrefix(e.Name(), ".") {
		return true
	}
	mode, err := typeOf(path, e)
	switch {
	case err != nil && (isManifest(path) || filepath.Ext(path) == ""):
		return w.problem(path, 0, plain(err)) // a broken link to a file or folder for us
	case mode.IsDir():
		return w.folder(path)
	case err != nil || !mode.IsRegular() || !isManifest(path):
		return true
	}
	w.files++
	return w.file(path, false)
}

// typeOf is the type of what an entry is, or leads to.
func typeOf(path string, e fs.DirEntry) (fs.FileMode, error) {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.Type(), nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fs.ModeIrregular, err
	}
	return info.Mode().Type(), nil
}

// isManifest tells by the name whether a file in a folder is for us.
func isManifest(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// isKustomization tells by the name whether a file is for kustomize to read.
func isKustomization(path string) bool {
	return slices.Contains(kustomizations, filepath.Base(path))
}

// file reads one file. Named tells whether it was asked for by name, so that
// holding no object is an error.
func (r *reader) file(path string, named bool) bool {
	if isKustomization(path) && !named {
		r.note(path, 0, "left out: build this folder with -k to have its objects")
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return r.problem(path, 0, plain(err))
	}
	defer f.Close()
	return r.stream(path, f, named)
}

// stream reads documents until the end.
func (r *reader) stream(file string, in io.Reader, named bool) bool {
	d := &decoding{reader: r, file: file, named: named}
	for doc, err := range documents(in) {
		if r.ended() {
			return false
		}
		if err != nil {
			d.failed = true
			if !r.problem(file, doc.line, plain(err)) {
				return false
			}
			continue
		}
		if !d.document(doc) {
			return false
		}
	}
	if d.objects > 0 || d.failed {
		return true
	}
	if named {
		return r.problem(file, 0, errNoObject)
	}
	if d.skipped == 0 {
		r.note(file, 0, "left out: %w", errNoObject)
	}
	return true
}

// plain takes the call and the path out of an error of the file system: the
// place says that already.
func plain(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return cmp.Or(e.Err, err)
	}
	return err
}
