// Package scaffold writes the beginning of a policy: a template, a constraint, a
// suite that tests them and samples for it. What it writes passes verify and
// lint as it is. It writes files only, beside the pipeline.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

//go:embed files
var files embed.FS

// kinds are the names that a constraint's kind may have: its lower-case form is
// the name of the template and part of that of a CustomResourceDefinition.
var kinds = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)

// Write writes the files of a new policy below a folder, which is created and
// must not hold them yet, and returns their paths. kind is that of the policy's
// constraints, as in RequiredOwner.
func Write(folder, kind string) ([]string, error) {
	if !kinds.MatchString(kind) {
		return nil, fmt.Errorf("%q is no kind: begin with an upper-case letter and go on with letters and digits, 63 at most, as in RequiredOwner", kind)
	}
	texts, err := render(kind)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range order {
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := create(file, texts[name]); err != nil {
			return out, err
		}
		out = append(out, file)
	}
	return out, nil
}

// order is that in which they are best read.
var order = []string{
	"template.yaml", "samples/constraint.yaml", "samples/allowed.yaml", "samples/disallowed.yaml", "suite.yaml",
}

func render(kind string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, name := range order {
		text, err := fs.ReadFile(files, "files/"+name+".tmpl")
		if err != nil {
			return nil, fmt.Errorf("reading the model of %s: %w", name, err)
		}
		model, err := template.New(name).Delims("<<", ">>").Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("reading the model of %s: %w", name, err)
		}
		var b bytes.Buffer
		if err := model.Execute(&b, struct{ Kind, Name string }{kind, strings.ToLower(kind)}); err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
		out[name] = b.Bytes()
	}
	return out, nil
}

// create writes a file that is not there yet.
func create(file string, text []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("creating the folder of %s: %w", file, err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: name another folder, or remove it", file)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.Write(text)
	return err
}
