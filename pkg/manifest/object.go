package manifest

import (
	"bytes"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/output"
)

// Object is an object and where it was written.
type Object struct {
	*unstructured.Unstructured
	// File is as it was asked for or found: a path, or "stdin".
	File string
	// Line is where the object starts, counting from 1; 0 if that is not known,
	// as for what kustomize has generated.
	Line int

	source *source
}

// Place is the file and the line.
func (o Object) Place() string { return output.Place(o.File, o.Line) }

// FieldLine is the line of a field; elements of lists are given by their number.
// A field that is not there has the line of the nearest one around it.
func (o Object) FieldLine(path ...string) int {
	if o.source == nil {
		return o.Line
	}
	return o.source.child(path...).start()
}

// IsBlock tells whether a field is text written line by line, the first of them
// on the line after FieldLine.
func (o Object) IsBlock(path ...string) bool {
	if o.source == nil {
		return false
	}
	root := o.source.parse()
	if root == nil {
		return false
	}
	path = append(slices.Clone(o.source.path), path...)
	_, n := descend(root, path)
	return n.Kind == yaml.ScalarNode && n.Style&yaml.LiteralStyle != 0
}

// source is the text of a document and the path of a value in it.
type source struct {
	text []byte
	line int
	path []string
}

func (s *source) child(path ...string) *source {
	out := *s
	out.path = append(append([]string{}, s.path...), path...)
	return &out
}

// start is the line that the value starts at.
func (s *source) start() int {
	if len(s.path) == 0 {
		return s.line
	}
	root := s.parse()
	if root == nil {
		return s.line
	}
	line, _ := descend(root, s.path)
	return s.line + line - 1
}

// elements are the lines that the elements of a list start at.
func (s *source) elements(n int) []int {
	out := slices.Repeat([]int{s.line}, n)
	root := s.parse()
	if root == nil {
		return out
	}
	_, list := descend(root, s.path)
	for i := range out {
		if _, element := field(list, strconv.Itoa(i)); element != nil {
			out[i] = s.line + element.Line - 1
		}
	}
	return out
}

// parse returns the document's root, nil if it has none.
func (s *source) parse() *yaml.Node {
	var root yaml.Node
	// Tabs are blanks in JSON, and nowhere in YAML.
	if yaml.Unmarshal(bytes.ReplaceAll(s.text, []byte("\t"), []byte(" ")), &root) != nil || len(root.Content) == 0 {
		return nil
	}
	return root.Content[0]
}

// descend returns the last value on the path that there is, and its line.
func descend(n *yaml.Node, path []string) (int, *yaml.Node) {
	line := n.Line
	for _, name := range path {
		for n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		key, value := field(n, name)
		if value == nil {
			return line, n
		}
		line, n = key.Line, value
	}
	return line, n
}

// field returns a field's key and value, or an element twice.
func field(n *yaml.Node, name string) (key, value *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i], n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
	}
	return nil, nil
}
