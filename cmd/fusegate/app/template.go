package app

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/lint"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/scaffold"
)

func newTemplate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "template",
		Short: "Begin a template, or look for what is wrong with some",
		Args:  noArgs,
	}
	cmd.AddCommand(newTemplateNew(), newTemplateLint())
	return cmd
}

func newTemplateNew() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use:   "new Kind",
		Short: "Write a template, a constraint, a suite and samples to begin with",
		Long: `Writes the files of a new policy whose constraints are of the kind given: a
template, a constraint, objects that it allows and disallows, and a suite that
tests them. They pass fusegate verify and fusegate template lint as they are.
Nothing is written over.

Exit codes: 0 written; 2 not.`,
		Example: "  fusegate template new RequiredOwner\n  fusegate verify requiredowner",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name the kind of the constraints, as in fusegate template new RequiredOwner")
			}
			if folder == "" {
				folder = strings.ToLower(args[0])
			}
			files, err := scaffold.Write(filepath.Clean(folder), args[0])
			for _, f := range files {
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&folder, "dir", "d", "", "folder to write to; the kind in lower case if empty")
	offline(cmd)
	return cmd
}

func newTemplateLint() *cobra.Command {
	var format func() (output.Format, error)
	cmd := &cobra.Command{
		Use:   "lint [file or folder]...",
		Short: "Look for what is wrong with templates, or will be",
		Long: `Looks at the templates in files and folders, the current folder without any, for
what the cluster would refuse, what OPA's strict mode objects to, and what
troubles users all the same. The rules:

` + lintRules() + `
Exit codes: 0 nothing found; 1 findings; 2 something could not be read.`,
		Example: "  fusegate template lint templates/\n  fusegate template lint -o github",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := format()
			if err != nil {
				return err
			}
			return runLint(cmd, args, f)
		},
	}
	format = formatFlag(cmd, output.Formats())
	offline(cmd)
	return cmd
}

func lintRules() string {
	var b strings.Builder
	for _, r := range lint.Rules() {
		fmt.Fprintf(&b, "  %s (%s)\n      %s\n", r.ID, r.Severity, strings.ReplaceAll(r.Text, ". ", ".\n      "))
	}
	return b.String()
}

func runLint(cmd *cobra.Command, args []string, format output.Format) error {
	if len(args) == 0 {
		args = []string{"."}
	}
	c := offlineCompiler()
	defer c.Close()
	found, unread := lint.Run(cmd.Context(), args, c)
	if unread == nil && len(found.Templates) == 0 {
		unread = fmt.Errorf("no ConstraintTemplate in %s", strings.Join(args, ", "))
		found.Problems = output.Problems(unread)
	}
	found.Version = version
	if err := output.Write(cmd.OutOrStdout(), found, format, styleOf(cmd.OutOrStdout())); err != nil {
		return err
	}
	switch {
	case unread != nil:
		return unread
	case len(found.Flaws) > 0:
		return exit{code: exitError}
	}
	return nil
}
