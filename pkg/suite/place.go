package suite

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// start is the line in its file of the first thing in the document.
func (d document) start() int {
	line := d.line + 1
	for text := range strings.Lines(string(d.text)) {
		if t := strings.TrimSpace(text); t != "" && t[0] != '#' {
			break
		}
		line++
	}
	return line
}

// regoLine is the line in the file of a place in a template's Rego, such as
// rego:3:7 or libs[0]:2:1; that of the document where there is no such place.
func (d document) regoLine(place string) int {
	parts := strings.Split(place, ":")
	root, err := d.node()
	if len(parts) < 2 || err != nil {
		return d.start()
	}
	row, err := strconv.Atoi(parts[1])
	if err != nil {
		return d.start()
	}
	return sourceLine(root, parts[0], row, d.start())
}

// sourceLine is the line in the file of a row of a template's Rego: of its entry
// point, "rego", or a library, as in "libs[0]". It is otherwise if the template
// has no such source.
func sourceLine(root *yaml.Node, source string, row, otherwise int) int {
	target := item(field(field(root, "spec"), "targets"), 0)
	// The legacy fields win over those of code, as they do when compiled.
	for _, holder := range append([]*yaml.Node{target}, codes(target)...) {
		n := field(holder, "rego")
		if i, found := strings.CutPrefix(source, "libs["); found {
			index, _ := strconv.Atoi(strings.TrimSuffix(i, "]"))
			n = item(field(holder, "libs"), index)
		}
		if n == nil {
			continue
		}
		if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			return n.Line + row
		}
		return n.Line + row - 1
	}
	return otherwise
}

func codes(target *yaml.Node) []*yaml.Node {
	var out []*yaml.Node
	list := field(target, "code")
	for i := 0; item(list, i) != nil; i++ {
		out = append(out, field(item(list, i), "source"))
	}
	return out
}

// field is the value of a key of n, nil if there is none.
func field(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

// item is an element of the list n, nil if there is none.
func item(n *yaml.Node, i int) *yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode || i < 0 || i >= len(n.Content) {
		return nil
	}
	return resolve(n.Content[i])
}
