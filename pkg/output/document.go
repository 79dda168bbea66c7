package output

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/printable"
)

// object is one of JSON or YAML whose lists are written element by element, as
// there may be very many of them. An element may be an object itself.
type object []member

// member has a value or a list. Lists are there even if they are empty.
type member struct {
	key   string
	value any
	list  iter.Seq[any]
}

// elements are the values of a list.
func elements[T any](of iter.Seq[T]) iter.Seq[any] {
	return func(yield func(any) bool) {
		for v := range of {
			if !yield(v) {
				return
			}
		}
	}
}

// step is how much deeper what an object or a list of JSON holds is indented.
const step = "  "

func writeJSON(w io.Writer, o object) error {
	if err := o.json(w, ""); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// json writes the object, whose closing brace is indented.
func (o object) json(w io.Writer, indent string) error {
	separator := "{\n"
	for _, m := range o {
		if _, err := fmt.Fprintf(w, "%s%s%q: ", separator, indent+step, m.key); err != nil {
			return err
		}
		if err := m.json(w, indent+step); err != nil {
			return err
		}
		separator = ",\n"
	}
	_, err := io.WriteString(w, "\n"+indent+"}")
	return err
}

func (m member) json(w io.Writer, indent string) error {
	if m.list == nil {
		text, err := indented(m.value, indent)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	empty := true
	for range m.list {
		empty = false
		break
	}
	if empty {
		_, err := io.WriteString(w, "[]")
		return err
	}
	if _, err := io.WriteString(w, "[\n"+indent+step); err != nil {
		return err
	}
	if err := writeElements(w, m.list, indent+step); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n"+indent+"]")
	return err
}

// writeElements writes those of a list of JSON, from where the first begins to
// where the last ends.
func writeElements(w io.Writer, list iter.Seq[any], indent string) error {
	separator := ""
	for v := range list {
		if _, err := io.WriteString(w, separator); err != nil {
			return err
		}
		separator = ",\n" + indent
		if o, ok := v.(object); ok {
			if err := o.json(w, indent); err != nil {
				return err
			}
			continue
		}
		text, err := indented(v, indent)
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// indented is v where it begins on a line that is begun.
func indented(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent(indent, step)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// encode is v on a line of its own.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// writeYAML writes the members of an object in order.
func writeYAML(w io.Writer, o object) error {
	for _, m := range o {
		if err := m.yaml(w); err != nil {
			return err
		}
	}
	return nil
}

func (m member) yaml(w io.Writer) error {
	if m.list == nil {
		return marshalYAML(w, map[string]any{m.key: m.value})
	}
	empty := true
	for v := range m.list {
		if empty {
			if _, err := fmt.Fprintf(w, "%s:\n", m.key); err != nil {
				return err
			}
			empty = false
		}
		if err := yamlElement(w, v); err != nil {
			return err
		}
	}
	if empty {
		_, err := fmt.Fprintf(w, "%s: []\n", m.key)
		return err
	}
	return nil
}

// yamlElement writes an element of a list. The members of an object are sorted,
// as those of all other values are.
func yamlElement(w io.Writer, v any) error {
	o, ok := v.(object)
	if !ok {
		return marshalYAML(w, []any{v})
	}
	sorted := slices.SortedFunc(slices.Values(o), func(a, b member) int { return cmp.Compare(a.key, b.key) })
	return writeYAML(&itemWriter{w: w, margin: "- "}, sorted)
}

// marshalYAML goes by way of JSON in which all is printable: what YAML does not
// take as it is, it takes as an escape.
func marshalYAML(w io.Writer, v any) error {
	text, err := encode(v)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	text, err = yaml.JSONToYAML([]byte(printable.Text(string(text))))
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	_, err = w.Write(text)
	return err
}

// itemWriter makes of lines an item of a list of YAML.
type itemWriter struct {
	w      io.Writer
	margin string
	within bool // a line
}

// Write implements io.Writer.
func (i *itemWriter) Write(text []byte) (int, error) {
	for line := range bytes.Lines(text) {
		if !i.within {
			if _, err := io.WriteString(i.w, i.margin); err != nil {
				return 0, err
			}
			i.margin = "  "
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.within = line[len(line)-1] != '\n'
	}
	return len(text), nil
}

// Encode writes v as JSON or YAML, with the names that JSON has for its fields.
// What of it is not printable is escaped.
func Encode(w io.Writer, f Format, v any) error {
	if f == YAML {
		return laidOut(w, func(w io.Writer) error { return marshalYAML(w, v) })
	}
	return laidOut(w, func(w io.Writer) error { return encodeJSON(w, v) })
}

func encodeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", step)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
