package manifest

import (
	"bytes"
	"encoding/json"
	"regexp"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// texts is a list whose items are still text, so that one at a time is decoded.
type texts struct {
	given schema.GroupVersionKind
	items []document
	json  bool
}

// list decodes and yields the items one by one.
func (d *decoding) list(l texts) bool {
	d.objects++
	for _, item := range l.items {
		if d.unwanted(item) {
			continue
		}
		decode := toJSON(d, item)
		if l.json {
			decode = fromJSON(d, item)
		}
		if !d.item(l, item, decode) {
			return false
		}
	}
	return true
}

func (d *decoding) item(l texts, item document, decode func() (any, error)) bool {
	v, err := decode()
	if err != nil {
		return d.value(item, func() (any, error) { return nil, err })
	}
	return d.element(found{line: item.line, source: &source{text: item.text, line: item.line}, given: l.given}, v, "List", maxLists)
}

var (
	listKind    = regexp.MustCompile(`(?m)^kind: ["']?(\w*List)["']?[ \t\r]*$`)
	listVersion = regexp.MustCompile(`(?m)^apiVersion: ["']?([\w./-]+)["']?[ \t\r]*$`)
	listItems   = regexp.MustCompile(`(?m)^items:[ \t\r]*\n`)
	listName    = regexp.MustCompile(`(?m)^  name:`)
	anchored    = regexp.MustCompile(`(?m)(?:: |- )[&*]\w`)
	topLevel    = regexp.MustCompile(`(?m)^[^\s#-]`)
	looseDash   = regexp.MustCompile(`(?m)^-(?:[^ ]|$)`)
)

// splitList takes a list apart line by line if it is written as kubectl writes
// one: its items at the margin, and no anchors.
func splitList(doc document) (texts, bool) {
	if !bytes.Contains(doc.text, []byte("items:")) {
		return texts{}, false
	}
	kind, version := listKind.FindSubmatch(doc.text), listVersion.FindSubmatch(doc.text)
	at := listItems.FindIndex(doc.text)
	if kind == nil || version == nil || at == nil || anchored.Match(doc.text) {
		return texts{}, false
	}
	body := doc.text[at[1]:]
	if end := topLevel.FindIndex(body); end != nil {
		if listName.Match(body[end[0]:]) {
			return texts{}, false
		}
		body = body[:end[0]]
	}
	if !bytes.HasPrefix(body, []byte("- ")) || looseDash.Match(body) || listName.Match(doc.text[:at[0]]) {
		return texts{}, false
	}
	out := texts{given: itemKind(string(version[1]), string(kind[1]))}
	out.items = splitItems(body, doc.line+lines(doc.text[:at[1]]))
	return out, true
}

// splitItems cuts at the lines that start with a dash, each of which becomes a
// blank: what follows is indented by two already.
func splitItems(body []byte, line int) []document {
	var out []document
	for len(body) > 0 {
		end := bytes.Index(body[1:], []byte("\n- "))
		item := body
		if end >= 0 {
			item = body[:end+2]
		}
		body = body[len(item):]
		item[0] = ' '
		out = append(out, document{text: item, line: line})
		line += lines(item)
	}
	return out
}

// jsonList takes a list of JSON apart.
func jsonList(doc document) (texts, bool) {
	var list struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Items      []json.RawMessage `json:"items"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if !bytes.Contains(doc.text, []byte(`"items"`)) || json.Unmarshal(doc.text, &list) != nil {
		return texts{}, false
	}
	if len(list.Kind) < len("List") || list.Kind[len(list.Kind)-len("List"):] != "List" || list.Items == nil || list.Metadata.Name != "" || list.APIVersion == "" {
		return texts{}, false
	}
	out := texts{given: itemKind(list.APIVersion, list.Kind), json: true}
	rest, line := doc.text, doc.line
	for _, item := range list.Items {
		at := max(bytes.Index(rest, item), 0)
		line += lines(rest[:at])
		out.items = append(out.items, document{text: item, line: line})
		line += lines(item)
		rest = rest[at+len(item):]
	}
	return out, true
}
