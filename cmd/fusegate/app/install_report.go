package app

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/printable"
)

func outputFlag(fs *pflag.FlagSet, output *string) {
	fs.StringVarP(output, "output", "o", "", "output format: json; empty for a line per object")
}

// report shows changes: as they happen, or as one JSON document at the end.
type report struct {
	out, err io.Writer
	json     bool
	changes  []jsonChange
}

type jsonChange struct {
	APIVersion string                `json:"apiVersion"`
	Kind       string                `json:"kind"`
	Namespace  string                `json:"namespace,omitempty"`
	Name       string                `json:"name"`
	Action     install.Action        `json:"action"`
	Fields     []install.FieldChange `json:"fields,omitempty"`
}

func newReport(out, err io.Writer, format string) (*report, error) {
	if err := checkOutput(format); err != nil {
		return nil, err
	}
	return &report{out: out, err: err, json: format == "json", changes: []jsonChange{}}, nil
}

func (r *report) add(c install.Change) {
	if !r.json {
		_, _ = fmt.Fprintf(r.out, "%s %s\n", c.Object, c.Action)
		for _, f := range c.Fields {
			_, _ = fmt.Fprintln(r.out, "    "+strings.ReplaceAll(printable.Text(f.String()), "\n", "\n    "))
		}
		return
	}
	r.changes = append(r.changes, jsonChange{
		APIVersion: c.Object.GroupVersion().String(), Kind: c.Object.Kind,
		Namespace: c.Object.Namespace, Name: c.Object.Name, Action: c.Action, Fields: c.Fields,
	})
}

// progress shows what is waited for; a JSON document stays clear of it.
func (r *report) progress(line string) {
	out := r.out
	if r.json {
		out = r.err
	}
	_, _ = fmt.Fprintln(out, "Waiting: "+printable.Line(line))
}

// note is for what is not about one object.
func (r *report) note(format string, args ...any) {
	_, _ = fmt.Fprintln(r.err, "Note: "+printable.Text(fmt.Sprintf(format, args...)))
}

// end closes the report, with a last word for people.
func (r *report) end(word string) error {
	if !r.json {
		_, err := io.WriteString(r.out, word)
		return err
	}
	enc := json.NewEncoder(r.out)
	enc.SetIndent("", "  ")
	return enc.Encode(r.changes)
}
