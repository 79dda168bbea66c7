package lint

import (
	"fmt"
	"io"

	"github.com/fusegate/fusegate/pkg/output"
)

// Formats are those that Write knows.
func Formats() []output.Format { return []output.Format{output.Table, output.JSON, output.GitHub} }

// Write writes findings about a number of templates.
func Write(w io.Writer, found []Finding, templates int, f output.Format, s output.Style) error {
	switch f {
	case output.JSON:
		return output.Encode(w, f, struct {
			Templates int       `json:"templates"`
			Findings  []Finding `json:"findings"`
		}{templates, append([]Finding{}, found...)})
	case output.GitHub:
		return github(w, found)
	}
	return table(w, found, templates, s)
}

func github(w io.Writer, found []Finding) error {
	for _, f := range found {
		if err := output.Annotate(w, string(f.Severity), f.File, f.Line, f.Rule, f.text()); err != nil {
			return err
		}
	}
	return nil
}

func table(w io.Writer, found []Finding, templates int, s output.Style) error {
	var rows [][]output.Cell
	for _, f := range found {
		tone := "warn"
		if f.Severity == Error {
			tone = "deny"
		}
		rows = append(rows, []output.Cell{
			{Text: string(f.Severity), Tone: tone}, {Text: f.Rule}, {Text: f.place(), Tone: "quiet"}, {Text: f.text()},
		})
	}
	if len(rows) > 0 {
		if err := output.WriteTable(w, []string{"SEVERITY", "RULE", "AT", "MESSAGE"}, rows, s); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s in %s\n", count(len(found), "finding"), count(templates, "template"))
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (f Finding) place() string {
	if f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}

// text is the message and what to do.
func (f Finding) text() string {
	if f.Fix == "" {
		return f.Message
	}
	return f.Message + "; " + f.Fix
}
