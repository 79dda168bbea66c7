package output

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// document writes the report as one object: counts, and lists that are there
// even if they are empty. Each element is encoded by itself, since there may be
// very many.
func (r Report) document(w io.Writer, f Format) error {
	b := bufio.NewWriter(w)
	e := listWriter{b: b, yaml: f == YAML}
	e.open(len(r.Objects), r.Constraints)
	e.list("violations", len(r.Findings), func(i int) any { return r.Findings[i] }, func(i int) bool { return !r.Findings[i].Fault })
	e.list("faults", len(r.Findings), func(i int) any { return r.Findings[i] }, func(i int) bool { return r.Findings[i].Fault })
	e.list("problems", len(r.Problems), func(i int) any { return r.Problems[i] }, func(int) bool { return true })
	if !e.yaml {
		_, _ = b.WriteString("\n}\n")
	}
	if e.err != nil {
		return e.err
	}
	return b.Flush() // which returns the first error of all writes
}

// listWriter writes an object of lists, in either language.
type listWriter struct {
	b    *bufio.Writer
	yaml bool
	err  error
}

func (l *listWriter) open(objects, constraints int) {
	if l.yaml {
		_, _ = fmt.Fprintf(l.b, "objects: %d\nconstraints: %d\n", objects, constraints)
		return
	}
	_, _ = fmt.Fprintf(l.b, "{\n  \"objects\": %d,\n  \"constraints\": %d", objects, constraints)
}

func (l *listWriter) list(name string, n int, get func(int) any, want func(int) bool) {
	written := 0
	for i := range n {
		if !want(i) {
			continue
		}
		if written == 0 {
			l.begin(name)
		}
		l.element(get(i), written == 0)
		written++
	}
	l.end(name, written)
}

func (l *listWriter) begin(name string) {
	if l.yaml {
		_, _ = l.b.WriteString(name + ":\n")
		return
	}
	_, _ = fmt.Fprintf(l.b, ",\n  %q: [", name)
}

func (l *listWriter) element(v any, first bool) {
	var text []byte
	var err error
	if l.yaml {
		text, err = yaml.Marshal([]any{v})
	} else {
		text, err = indented(v)
		if !first {
			_ = l.b.WriteByte(',')
		}
	}
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("encoding: %w", err)
	}
	_, _ = l.b.Write(text)
}

// indented is v as an element of a list in an object.
func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("\n    ")
	e := json.NewEncoder(&b)
	e.SetIndent("    ", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

func (l *listWriter) end(name string, written int) {
	switch {
	case l.yaml && written == 0:
		_, _ = l.b.WriteString(name + ": []\n")
	case !l.yaml && written == 0:
		_, _ = fmt.Fprintf(l.b, ",\n  %q: []", name)
	case !l.yaml:
		_, _ = l.b.WriteString("\n  ]")
	}
}

// Encode writes v as JSON or YAML, with the names that JSON has for its fields.
func Encode(w io.Writer, f Format, v any) error {
	if f == YAML {
		text, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("encoding: %w", err)
		}
		_, err = w.Write(text)
		return err
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
