package output

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fusegate/fusegate/pkg/printable"
)

// colors are what a terminal is told of each tone.
var colors = map[Tone]string{Bad: "\x1b[31m", Caution: "\x1b[33m", Quiet: "\x1b[2m"}

const noColor = "\x1b[0m"

// Cell is one field of a table.
type Cell struct {
	Text string
	Tone Tone
}

// Cells makes a row of what is a Cell and what can be printed.
func Cells(of ...any) []Cell {
	out := make([]Cell, len(of))
	for i, v := range of {
		if c, ok := v.(Cell); ok {
			out[i] = c
			continue
		}
		out[i].Text = fmt.Sprint(v)
	}
	return out
}

// WriteTable writes rows below a header, in columns. The last column is as long
// as it is. Each text is made one printable line.
func WriteTable(w io.Writer, header []string, rows [][]Cell, s Style) error {
	b := bufio.NewWriter(w)
	_ = table{header: header, rows: slices.Values(rows)}.write(b, s)
	return b.Flush() // which returns the first error of all writes
}

// table is one in columns.
type table struct {
	header []string
	rows   iter.Seq[[]Cell]
}

// write goes through the rows twice: columns are as wide as their widest cell.
func (t table) write(w io.Writer, s Style) error {
	widths := make([]int, len(t.header))
	for i, h := range t.header {
		widths[i] = utf8.RuneCountInString(h)
	}
	for row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(printable.Line(c.Text)))
		}
	}
	if err := writeRow(w, Cells(toAny(t.header)...), widths, Style{}); err != nil {
		return err
	}
	for row := range t.rows {
		if err := writeRow(w, row, widths, s); err != nil {
			return err
		}
	}
	return nil
}

func toAny(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}

func writeRow(w io.Writer, row []Cell, widths []int, s Style) error {
	var b strings.Builder
	for i, c := range row {
		text := printable.Line(c.Text)
		if color := colors[c.Tone]; s.Color && color != "" {
			b.WriteString(color + text + noColor)
		} else {
			b.WriteString(text)
		}
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+3))
		}
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

func count[N int | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
