package trial

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/fusegate/fusegate/pkg/printable"
)

// Write writes an explanation for people.
func (x Explained) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s:%d) by %s (%s)\n", x.Object, x.Object.File, x.Object.Line, x.Constraint, x.ConstraintAt)
	last := ""
	for _, c := range x.Clauses {
		if c.Object != last && x.Clauses[len(x.Clauses)-1].Object != x.Clauses[0].Object {
			fmt.Fprintf(&b, "  as %s\n", c.Object)
			last = c.Object
		}
		word := "yes"
		if !c.Holds {
			word = "NO "
		}
		fmt.Fprintf(&b, "  %s  match.%s: %s\n", word, c.Field, c.Why)
	}
	for _, line := range x.verdict() {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	text := b.String()
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(w, printable.Line(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	for line := range strings.Lines(x.Steps) {
		if _, err := fmt.Fprintln(w, "    "+printable.Line(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// verdict says what came of it, in lines.
func (x Explained) verdict() []string {
	switch {
	case x.Silent != "":
		return []string{"not judged: " + x.Silent}
	case !x.Matches && len(x.Findings) == 0:
		return []string{"does not match, and is not judged"}
	}
	var out []string
	if x.Matches {
		out = append(out, "matches")
	}
	for _, p := range x.Prints {
		out = append(out, "print  "+p)
	}
	for _, r := range x.Rules {
		out = append(out, "the rule at "+r.At+" fired")
		for _, name := range slices.Sorted(maps.Keys(r.Values)) {
			out = append(out, "    "+name+" = "+r.Values[name])
		}
	}
	for _, f := range x.Findings {
		word := string(f.Action)
		if f.Fault {
			word = "not judged"
		}
		out = append(out, word+": "+oneLine(f.Message))
	}
	if len(x.Findings) == 0 {
		out = append(out, "no rule fired: not violated")
	}
	return out
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " / ") }
