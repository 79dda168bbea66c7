package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fusegate/fusegate/pkg/output"
)

// ErrNoSuite is what a target without any suite comes to.
var ErrNoSuite = errors.New("no Suite of " + Group + " here")

// Disk is the file system of this machine, by the paths that its users write.
// Unlike fs.FS in general it takes absolute paths and those with "..".
type Disk struct{}

// Open implements fs.FS.
func (Disk) Open(name string) (fs.File, error) { return os.Open(filepath.FromSlash(name)) }

// Find reads the suites that a target names: a file, a folder, or, if the
// target ends in "/...", a folder with everything below it. Files that hold no
// suite are left alone; a file that is named itself must hold one. The suites
// are sorted by path; what could be read is returned along with the error.
func Find(files fs.FS, target string) ([]*Suite, error) {
	candidates, err := candidates(files, target)
	if err != nil {
		return nil, err
	}
	var out []*Suite
	var errs []error
	for _, file := range candidates {
		suites, err := readSuites(files, file)
		out, errs = append(out, suites...), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || len(out) > 0 {
		return out, err
	}
	return nil, output.Problem{File: target, Err: ErrNoSuite}
}

// candidates are the files of a target that may hold a suite, sorted.
func candidates(files fs.FS, target string) ([]string, error) {
	target = filepath.ToSlash(target)
	folder, recursive := strings.CutSuffix(target, "/...")
	if target == "..." {
		folder, recursive = ".", true
	}
	if folder == "" {
		folder = "/"
	}
	info, err := fs.Stat(files, folder)
	if err != nil {
		return nil, output.Problem{File: target, Err: reason(err)}
	}
	switch {
	case !info.IsDir() && recursive:
		return nil, output.Problem{File: folder, Err: errors.New("not a folder: leave out /... to name a file")}
	case !info.IsDir():
		return one(target)
	case recursive:
		return below(files, folder)
	}
	return in(files, folder)
}

func one(file string) ([]string, error) {
	if !isYAML(file) {
		return nil, output.Problem{File: file, Err: errors.New("want a file that ends in .yaml or .yml")}
	}
	return []string{file}, nil
}

func in(files fs.FS, folder string) ([]string, error) {
	entries, err := fs.ReadDir(files, folder)
	var out []string
	for _, e := range entries {
		if !e.IsDir() && isYAML(e.Name()) {
			out = append(out, path.Join(folder, e.Name()))
		}
	}
	return out, err
}

func below(files fs.FS, folder string) ([]string, error) {
	var out []string
	err := fs.WalkDir(files, folder, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() && isYAML(name) {
			out = append(out, path.Clean(name))
		}
		return nil
	})
	slices.Sort(out)
	return out, err
}

func isYAML(name string) bool {
	ext := path.Ext(name)
	return ext == ".yaml" || ext == ".yml"
}

// readSuites reads the suites in a file. A file without the group's name holds
// none, and need not even be YAML, as with the sources of a chart.
func readSuites(files fs.FS, file string) ([]*Suite, error) {
	content, err := fs.ReadFile(files, file)
	if err != nil {
		return nil, output.Problem{File: file, Err: reason(err)}
	}
	if !bytes.Contains(content, []byte(Group)) {
		return nil, nil
	}
	docs, err := split(file, content)
	if err != nil {
		return nil, err
	}
	var out []*Suite
	var errs []error
	for _, d := range docs {
		node, err := d.node()
		if err != nil {
			return out, errors.Join(append(errs, err)...)
		}
		if !isSuite(node) {
			continue
		}
		s, err := parseSuite(file, node)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// reason is err without the path, which the problem names already.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return fmt.Errorf("%s: %w", at.Op, at.Err)
	}
	return err
}
