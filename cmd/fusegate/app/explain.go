package app

import (
	"errors"
	"fmt"

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
			return x.Write(w)
		}
		all = append(all, x)
		return nil
	}
	printProblems(cmd, t.Problems())
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
