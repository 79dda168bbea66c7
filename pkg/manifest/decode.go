package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// maxLists is how deep lists may lie in lists.
const maxLists = 8

var (
	errNotObject = errors.New("is no Kubernetes object: it has no apiVersion and no kind")
	errHelm      = errors.New("this looks like a Helm template: render it with `helm template` first")
)

// decoding is the reading of one file.
type decoding struct {
	*reader
	file  string
	named bool
	// objects, skipped and failed say what has come of its documents.
	objects, skipped int
	failed           bool
}

// document decodes one, which may hold several JSON values one after the other.
func (d *decoding) document(doc document) bool {
	if d.unwanted(doc) {
		return true
	}
	if doc.text[0] != '{' && doc.text[0] != '[' {
		return d.yaml(doc)
	}
	in := json.NewDecoder(bytes.NewReader(doc.text))
	for first := true; ; first = false {
		from := in.InputOffset()
		var raw json.RawMessage
		err := in.Decode(&raw)
		if first && err != nil {
			return d.yaml(doc) // of flow style, or broken
		}
		if err != nil && len(bytes.TrimSpace(doc.text[from:])) == 0 {
			return true
		}
		if err != nil {
			return d.fail(doc.line+lines(doc.text[:from]), fmt.Errorf("reading JSON: %w", err))
		}
		start := in.InputOffset() - int64(len(raw))
		if !d.json(document{text: raw, line: doc.line + lines(doc.text[:start])}) {
			return false
		}
	}
}

// unwanted leaves out a document that nobody asked for. It does count.
func (d *decoding) unwanted(doc document) bool {
	if d.Want == nil || d.Want(doc.text) {
		return false
	}
	d.objects++
	return true
}

func lines(text []byte) int { return bytes.Count(text, []byte("\n")) }

func (d *decoding) fail(line int, err error) bool {
	d.failed = true
	return d.problem(d.file, line, err)
}

// yaml decodes one document as the API server's clients do: by way of JSON, in
// YAML 1.1 as Kubernetes has it.
func (d *decoding) yaml(doc document) bool {
	if items, ok := splitList(doc); ok {
		return d.list(items)
	}
	return d.value(doc, toJSON(d, doc))
}

func (d *decoding) json(doc document) bool {
	if l, ok := jsonList(doc); ok {
		return d.list(l)
	}
	return d.value(doc, fromJSON(d, doc))
}

// toJSON returns what decodes a document of YAML.
func toJSON(d *decoding, doc document) func() (any, error) {
	return func() (any, error) {
		text, err := yaml.YAMLToJSONStrict(doc.text)
		if err != nil {
			lenient, err2 := yaml.YAMLToJSON(doc.text)
			if err2 != nil {
				return nil, err2
			}
			line, message := place(err, doc)
			d.note(d.file, line, "the last one counts: %s", message)
			text = lenient
		}
		var v any
		err = kjson.UnmarshalCaseSensitivePreserveInts(text, &v)
		return v, err
	}
}

func fromJSON(d *decoding, doc document) func() (any, error) {
	return func() (any, error) {
		var v any
		strict, err := kjson.UnmarshalStrict(doc.text, &v)
		if len(strict) > 0 && err == nil {
			d.note(d.file, doc.line, "the last one counts: %w", errors.Join(strict...))
		}
		return v, err
	}
}

// value takes in what a document was decoded to.
func (d *decoding) value(doc document, decode func() (any, error)) bool {
	v, err := decode()
	if err != nil {
		line, message := place(err, doc)
		if at := bytes.Index(doc.text, []byte("{{")); at >= 0 {
			return d.fail(doc.line+lines(doc.text[:at]), fmt.Errorf("%s; %w", message, errHelm))
		}
		return d.fail(line, errors.New(message))
	}
	fields, ok := v.(map[string]any)
	if v == nil {
		return true
	}
	if !ok {
		return d.foreign(doc.line, errNotObject)
	}
	return d.take(found{fields: fields, line: doc.line, source: &source{text: doc.text, line: doc.line}}, maxLists)
}

// found is what may be an object, or a list of some.
type found struct {
	fields map[string]any
	line   int
	source *source
	// given is what the list says that the item is.
	given schema.GroupVersionKind
}

// foreign leaves out what is not of Kubernetes: an error if the file was asked
// for, a note if it only lay in a folder.
func (d *decoding) foreign(line int, err error) bool {
	if d.named {
		return d.fail(line, err)
	}
	d.skipped++
	d.note(d.file, line, "left out: %w", err)
	return true
}

// take yields an object, or the items of a list.
func (d *decoding) take(f found, depth int) bool {
	u := &unstructured.Unstructured{Object: f.fields}
	complete(u, f.given)
	err := check(u)
	switch {
	case errors.Is(err, errNotObject):
		return d.foreign(f.line, err)
	case err != nil:
		return d.fail(f.line, err)
	case isList(u):
		return d.items(f, u, depth)
	}
	d.objects++
	return d.object(Object{Unstructured: u, File: d.file, Line: f.line, source: f.source})
}

func (d *decoding) items(f found, list *unstructured.Unstructured, depth int) bool {
	if depth == 0 {
		return d.fail(f.line, fmt.Errorf("lists lie more than %d deep in each other", maxLists))
	}
	d.objects++ // an empty list is not nothing
	items, _ := list.Object["items"].([]any)
	at := f.source.child("items").elements(len(items))
	for i, item := range items {
		next := found{line: at[i], source: f.source.child("items", strconv.Itoa(i)), given: itemKind(list.GetAPIVersion(), list.GetKind())}
		if !d.element(next, item, list.GetKind(), depth-1) {
			return false
		}
	}
	return true
}

func (d *decoding) element(f found, item any, list string, depth int) bool {
	fields, ok := item.(map[string]any)
	if !ok {
		return d.fail(f.line, fmt.Errorf("an item of this %s is no object", list))
	}
	f.fields = fields
	return d.take(f, depth)
}

// complete gives an item of a typed list what its list says of it.
func complete(u *unstructured.Unstructured, given schema.GroupVersionKind) {
	if given.Empty() || u.Object["apiVersion"] != nil || u.Object["kind"] != nil {
		return
	}
	u.SetGroupVersionKind(given)
}

// itemKind is what the items of a typed list are; nothing for v1 List.
func itemKind(apiVersion, kind string) schema.GroupVersionKind {
	if kind == "List" {
		return schema.GroupVersionKind{}
	}
	return schema.FromAPIVersionAndKind(apiVersion, strings.TrimSuffix(kind, "List"))
}

// isList tells a list from an object that happens to be called one.
func isList(u *unstructured.Unstructured) bool {
	_, ok := u.Object["items"].([]any)
	return (ok || u.Object["items"] == nil && u.GetKind() == "List") && strings.HasSuffix(u.GetKind(), "List") && u.GetName() == ""
}

// check returns what is wrong with an object that no kind can allow.
func check(u *unstructured.Unstructured) error {
	apiVersion, kind := u.Object["apiVersion"], u.Object["kind"]
	switch {
	case apiVersion == nil && kind == nil:
		return errNotObject
	case apiVersion == nil || apiVersion == "":
		return fmt.Errorf("apiVersion: is missing on this %v: add it", kind)
	case kind == nil || kind == "":
		return errors.New("kind: is missing: add it")
	}
	for field, v := range map[string]any{"apiVersion": apiVersion, "kind": kind} {
		if _, ok := v.(string); !ok {
			return fmt.Errorf("%s: must be a string, is %v", field, v)
		}
	}
	if _, err := schema.ParseGroupVersion(u.GetAPIVersion()); err != nil {
		return fmt.Errorf("apiVersion: %w", err)
	}
	return checkMetadata(u.Object["metadata"])
}

func checkMetadata(metadata any) error {
	if metadata == nil {
		return nil
	}
	fields, ok := metadata.(map[string]any)
	if !ok {
		return errors.New("metadata: must be an object")
	}
	for _, key := range []string{"name", "generateName", "namespace"} {
		if v := fields[key]; v != nil {
			if _, ok := v.(string); !ok {
				return fmt.Errorf("metadata.%s: must be a string, is %v: put it in quotes", key, v)
			}
		}
	}
	return nil
}

var lineOf = regexp.MustCompile(`(?s)^(?:error converting YAML to JSON: )?(?:yaml: )?(?:unmarshal errors:\s*)?line (\d+): (.*)$`)

// place finds the line that an error of the YAML library names, which counts
// from the start of the document.
func place(err error, doc document) (line int, message string) {
	text := err.Error()
	found := lineOf.FindStringSubmatch(text)
	if found == nil {
		text = strings.TrimPrefix(text, "error converting YAML to JSON: ")
		return doc.line, "reading YAML: " + strings.TrimPrefix(text, "yaml: ")
	}
	n, _ := strconv.Atoi(found[1])
	return doc.line + max(n, 1) - 1, "reading YAML: " + strings.TrimSpace(found[2])
}
