package app

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/printable"
)

// formatFlag adds --output with the formats that a command has, the default
// first. What it returns is the one that was asked for, once flags are parsed.
func formatFlag(cmd *cobra.Command, of []output.Format) func() (output.Format, error) {
	names := make([]string, len(of))
	for i, f := range of {
		names[i] = string(f)
	}
	last := len(names) - 1
	name := cmd.Flags().StringP("output", "o", names[0], "output format: "+strings.Join(names[:last], ", ")+" or "+names[last])
	complete(cmd, map[string]completion{"output": func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return names, cobra.ShellCompDirectiveNoFileComp
	}})
	return func() (output.Format, error) {
		format, err := output.ParseFormat(*name, of)
		if err != nil {
			return "", fmt.Errorf("--output: %w", err)
		}
		return format, nil
	}
}

// printProblems writes what could not be read or run to standard error.
func printProblems(cmd *cobra.Command, problems []output.Problem) {
	for _, p := range problems {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "error:", printable.Line(p.Error()))
	}
}
