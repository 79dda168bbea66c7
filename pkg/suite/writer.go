package suite

import (
	"encoding/json"
	"errors"
	"io"
)

// Writer writes the outcome of a run: each suite as it is through, then the end.
type Writer interface {
	Suite(*Result) error
	End(Outcome) error
}

// NewWriter returns a Writer of a format: "json", "junit", or text like that of
// go test for any other. Only the text heeds verbose; the others tell all.
func NewWriter(format string, out io.Writer, verbose bool) Writer {
	switch format {
	case "json":
		return &jsonWriter{out: out}
	case "junit":
		return &junitWriter{out: out}
	}
	return &Printer{Out: out, Verbose: verbose}
}

// record is a suite, test or case in JSON.
type record struct {
	Name    string   `json:"name"`
	Path    string   `json:"path,omitempty"`
	Line    int      `json:"line,omitempty"`
	Outcome string   `json:"outcome"`
	Seconds float64  `json:"seconds"`
	Errors  []Place  `json:"errors,omitempty"`
	Tests   []record `json:"tests,omitempty"`
	Cases   []record `json:"cases,omitempty"`
}

// Place is one reason of a failure and where to look.
type Place struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`
}

// Places takes an error of a test or case apart.
func Places(err error) []Place {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []Place
		for _, e := range many.Unwrap() {
			out = append(out, Places(e)...)
		}
		return out
	}
	if r := (refused{}); errors.As(err, &r) {
		return Places(r.error)
	}
	if p := (*Problem)(nil); errors.As(err, &p) {
		return []Place{{File: p.File, Line: p.Line, Message: p.Err.Error()}}
	}
	return []Place{{Message: err.Error()}}
}

var outcomes = map[Outcome]string{Passed: "pass", Failed: "fail", Broken: "error"}

func outcomeWord(skipped bool, o Outcome) string {
	if skipped {
		return "skip"
	}
	return outcomes[o]
}

func recordOf(r *Result) record {
	out := record{Name: r.Name, Path: r.Path, Outcome: outcomeWord(r.Skipped, r.Outcome()), Seconds: r.Elapsed.Seconds()}
	for i := range r.Tests {
		t := &r.Tests[i]
		test := record{
			Name: t.Name, Line: t.Line, Outcome: outcomeWord(t.Skipped, t.Outcome()),
			Seconds: t.Elapsed.Seconds(), Errors: Places(t.Err),
		}
		for j := range t.Cases {
			c := &t.Cases[j]
			test.Cases = append(test.Cases, record{
				Name: c.Name, Line: c.Line, Outcome: outcomeWord(c.Skipped, c.Outcome()),
				Seconds: c.Elapsed.Seconds(), Errors: Places(c.Err),
			})
		}
		out.Tests = append(out.Tests, test)
	}
	return out
}

// jsonWriter writes one document: {"outcome": ..., "suites": [...]}.
type jsonWriter struct {
	out    io.Writer
	suites []record
}

func (w *jsonWriter) Suite(r *Result) error {
	w.suites = append(w.suites, recordOf(r))
	return nil
}

func (w *jsonWriter) End(o Outcome) error {
	enc := json.NewEncoder(w.out)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Outcome string   `json:"outcome"`
		Suites  []record `json:"suites"`
	}{outcomes[o], append([]record{}, w.suites...)})
}
