package app

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

func newUninstall() *cobra.Command {
	var policies, dryRun bool
	var output string
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove Fusegate: the webhook configuration first",
		Long: `Removes what install applied: the webhook configuration first, whatever is wrong
with the rest, and then what it can of the others. Templates and constraints
stay, unless --delete-policies is given.

` + exitCodes,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := load(cmd)
			if err != nil {
				return err
			}
			report, err := newReport(cmd.OutOrStdout(), cmd.ErrOrStderr(), output)
			if err != nil {
				return err
			}
			cluster, err := connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			changes, err := install.Remove(cmd.Context(), cluster.client, s.Config, install.RemoveOptions{
				Policies: policies, DryRun: dryRun, Progress: report.add,
			})
			if err != nil {
				return errors.Join(err, report.end(""))
			}
			return report.end(removed(changes, policies, dryRun))
		},
	}
	fs := cmd.Flags()
	addSettings(fs, config.Uninstall)
	outputFlag(fs, &output)
	fs.BoolVar(&policies, "delete-policies", false, "remove all templates and constraints too")
	fs.BoolVar(&policies, "policies", false, "what --delete-policies was called first")
	fs.Lookup("policies").Hidden = true
	fs.BoolVar(&dryRun, "dry-run", false, "say what would go, and remove nothing")
	return cmd
}

// removed says what is left.
func removed(changes []install.Change, policies, dryRun bool) string {
	switch {
	case len(changes) == 0:
		return "There is nothing of Fusegate in the cluster.\n"
	case dryRun:
		return "\nThis was a dry run: nothing was removed.\n"
	case policies:
		return "\nRemoved. The namespace goes once it is empty.\n"
	}
	return "\nRemoved, except for templates and constraints; --delete-policies removes those too.\n"
}
