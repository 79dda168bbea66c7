package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Colors, as a terminal is told of them.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	faint  = "\x1b[2m"
	plain  = "\x1b[0m"
)

// Cell is one field of a table.
type Cell struct {
	Text string
	// Tone is what a terminal with colours should make of it: "deny", "fault",
	// "warn", "quiet" or nothing.
	Tone string
}

var tones = map[string]string{"deny": red, "fault": red, "warn": yellow, "dryrun": faint, "quiet": faint}

// WriteTable writes rows below a header, in columns. The last column is as long
// as it is. Text is made harmless to a terminal.
func WriteTable(w io.Writer, header []string, rows [][]Cell, s Style) error {
	widths := make([]int, len(header))
	for i, h := range header {
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, row := range rows {
		for i, c := range row {
			row[i].Text = Harmless(c.Text)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].Text))
		}
	}
	var b strings.Builder
	for i, h := range header {
		pad(&b, Cell{Text: h}, widths[i], i == len(header)-1, Style{})
	}
	for _, row := range rows {
		for i, c := range row {
			pad(&b, c, widths[i], i == len(row)-1, s)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func pad(b *strings.Builder, c Cell, width int, last bool, s Style) {
	color := tones[c.Tone]
	if s.Color && color != "" {
		b.WriteString(color + c.Text + plain)
	} else {
		b.WriteString(c.Text)
	}
	if last {
		b.WriteByte('\n')
		return
	}
	b.WriteString(strings.Repeat(" ", width-utf8.RuneCountInString(c.Text)+3))
}

// Harmless replaces what a terminal would obey, or what would break a line. Text
// of objects comes from whoever wrote them.
func Harmless(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\n", " / ")
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

func (r Report) table(w io.Writer, wide bool, s Style) error {
	header := []string{"ACTION", "CONSTRAINT", "OBJECT", "AT", "MESSAGE"}
	if wide {
		header = []string{"ACTION", "CONSTRAINT", "APIVERSION", "OBJECT", "AT", "DETAILS", "MESSAGE"}
	}
	var rows [][]Cell
	for _, f := range r.Findings {
		rows = append(rows, f.row(wide))
	}
	if len(rows) > 0 {
		if err := WriteTable(w, header, rows, s); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, r.Summary())
	return err
}

func (f Finding) row(wide bool) []Cell {
	action := Cell{Text: f.Action, Tone: f.Action}
	if f.Fault {
		action = Cell{Text: "fault", Tone: "fault"}
	}
	at := Cell{Text: place(f.Object.File, f.Object.Line), Tone: "quiet"}
	constraint, object, message := Cell{Text: f.Constraint.String()}, Cell{Text: f.Object.String()}, Cell{Text: f.Message}
	if !wide {
		return []Cell{action, constraint, object, at, message}
	}
	details := ""
	if text, err := json.Marshal(f.Details); err == nil && f.Details != nil {
		details = string(text)
	}
	return []Cell{action, constraint, {Text: f.Object.APIVersion}, object, at, {Text: details}, message}
}

func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// Summary says in a line what was found.
func (r Report) Summary() string {
	byAction := map[string]int{}
	for _, f := range r.Violations() {
		byAction[f.Action]++
	}
	text := fmt.Sprintf("%s in %s judged by %s", count(len(r.Violations()), "violation"), count(len(r.Objects), "object"), count(r.Constraints, "constraint"))
	var parts []string
	for _, action := range []string{"deny", "warn", "dryrun"} {
		if n := byAction[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	if n := len(r.Faults()); n > 0 {
		text += "; " + count(n, "verdict") + " could not be had"
	}
	if n := len(r.Problems); n > 0 {
		text += "; incomplete: " + count(n, "problem")
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
