package suite

import (
	"bytes"
	"errors"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/output"
)

// document is one YAML document of a file.
type document struct {
	file string
	// line is that of the document's first line in the file, less one.
	line int
	text []byte
}

// split cuts a file at the lines "---". Documents that hold nothing but
// comments are left out.
func split(file string, content []byte) ([]document, error) {
	var out []document
	start, line, begin := 0, 0, 0
	add := func(end int) {
		if text := content[start:end]; !blank(text) {
			out = append(out, document{file: file, line: begin, text: text})
		}
	}
	for at := 0; at < len(content); line++ {
		next := len(content)
		if i := bytes.IndexByte(content[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		if separates(content[at:next]) {
			add(at)
			// What follows the dashes belongs to the next document.
			start, begin = at+len("---"), line
		}
		at = next
	}
	add(len(content))
	return out, nil
}

// separates tells whether a line begins a document.
func separates(line []byte) bool {
	rest, found := bytes.CutPrefix(line, []byte("---"))
	return found && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if t := bytes.TrimSpace(line); len(t) > 0 && t[0] != '#' {
			return false
		}
	}
	return true
}

// node parses the document for its structure and lines.
func (d document) node() (*yaml.Node, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(d.text, &n); err != nil {
		return nil, d.problem(err)
	}
	if n.Kind != yaml.DocumentNode || len(n.Content) == 0 {
		return &n, nil
	}
	shift(n.Content[0], d.line)
	return resolve(n.Content[0]), nil
}

// shift makes the lines of a document those of its file.
func shift(n *yaml.Node, by int) {
	n.Line += by
	for _, c := range n.Content {
		shift(c, by)
	}
}

// object decodes the document as kubectl and the API server would: integers
// stay integers, and a key that is there twice is an error.
func (d document) object() (*unstructured.Unstructured, error) {
	text, err := sigsyaml.YAMLToJSONStrict(d.text)
	if err != nil {
		return nil, d.problem(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(text, &u.Object); err != nil {
		return nil, d.problem(errors.New("not an object with apiVersion and kind"))
	}
	if u.GetKind() == "" || u.GetAPIVersion() == "" {
		return nil, d.problem(errors.New("apiVersion or kind is missing"))
	}
	return u, nil
}

var lineInError = regexp.MustCompile(`(?:yaml: )?(?:unmarshal errors:\s*)?line (\d+): `)

// problem places an error of a YAML parser, which counts lines from the start
// of the document, in the file.
func (d document) problem(err error) error {
	p := output.Problem{File: d.file, Line: d.line + 1}
	text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	if m := lineInError.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		p.Line = d.line + n
		text = strings.Replace(text, m[0], "", 1)
	}
	p.Err = errors.New(text)
	return p
}

// read returns the documents of a file, of which there is at least one.
func read(files fs.FS, file string) ([]document, error) {
	content, err := fs.ReadFile(files, file)
	if err != nil {
		return nil, output.Problem{File: file, Err: reason(err)}
	}
	docs, err := split(file, content)
	if err == nil && len(docs) == 0 {
		err = output.Problem{File: file, Err: errors.New("there is no object in it")}
	}
	return docs, err
}

// isSuite tells whether a document is a Suite.
func isSuite(n *yaml.Node) bool {
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
	}
	if err := n.Decode(&head); err != nil {
		return false
	}
	gv, err := schema.ParseGroupVersion(head.APIVersion)
	return err == nil && gv.Group == Group && head.Kind == Kind
}
