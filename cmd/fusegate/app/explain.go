package app

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/trial"
)

// explain tells how constraints come to what they say, in place of a report.
func (f *testFlags) explain(cmd *cobra.Command, t *trial.Trial, format output.Format) error {
	w := cmd.OutOrStdout()
	var all []trial.Explained
	take := func(x trial.Explained) error {
		if format == output.Table || format == output.Wide {
			return writeExplained(w, x)
		}
		all = append(all, x)
		return nil
	}
	for _, p := range t.Problems() {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "error:", output.Harmless(p.Error()))
	}
	if err := t.Explain(cmd.Context(), trial.Selection{Object: f.object, Constraint: f.constraint, Steps: f.trace}, take); err != nil {
		return err
	}
	if all != nil {
		if err := output.Encode(w, format, all); err != nil {
			return fmt.Errorf("writing %s: %w", format, err)
		}
	}
	if len(t.Problems()) > 0 {
		return exit{code: exitBroken}
	}
	return nil
}

// checkExplain refuses flags that do not go together.
func (f *testFlags) checkExplain(format output.Format) error {
	if !f.explained && !f.trace {
		if f.object != "" || f.constraint != "" {
			return errors.New("--object and --constraint say what to --explain or --trace: add one of them")
		}
		return nil
	}
	if _, err := output.ParseFormat(string(format), []output.Format{output.Table, output.Wide, output.JSON, output.YAML}); err != nil {
		return fmt.Errorf("--output with --explain or --trace: %w", err)
	}
	return nil
}

// writeExplained writes an explanation for people.
func writeExplained(w io.Writer, x trial.Explained) error {
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
	for _, line := range verdictLines(x) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	text := b.String()
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(w, output.Harmless(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	for line := range strings.Lines(x.Steps) {
		if _, err := fmt.Fprintln(w, "    "+output.Harmless(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// verdictLines say what came of it.
func verdictLines(x trial.Explained) []string {
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
		word := f.Action
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
