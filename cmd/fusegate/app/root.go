package app

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "fusegate",
		Short: "Policy for Kubernetes that cannot take the cluster down",
		Long: `Fusegate enforces ConstraintTemplates and constraints, as Gatekeeper does, with
a webhook that no configuration can turn into an outage: it always ignores
failures, and never sees the control plane's own requests.

Every setting can be given as a flag, as an environment variable FUSEGATE_*
(--webhook-url is FUSEGATE_WEBHOOK_URL) or in the file named by --config, in
this order of precedence; the file's keys are in camel case (webhookURL).

` + exitCodes,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if strings.Contains(err.Error(), "unknown flag: --failure-policy") {
			return install.Refuse(config.ErrFailurePolicy)
		}
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newServe(), newInstall(), newUninstall(), newManifests(), newVersion())
	root.AddCommand(newTest(), newVerify(), newBench(), newTemplate(), newAudit(), newDocs(), newCompiler())
	asPlugin(root)
	return root
}

// noArgs refuses what is neither a command nor a flag.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments, and %q is one; see %[1]s --help", cmd.CommandPath(), args[0])
	}
	return nil
}

// checkOutput refuses formats that a command cannot write.
func checkOutput(format string) error {
	if format == "" || format == "json" {
		return nil
	}
	return fmt.Errorf("--output %q: use json, or leave it out", format)
}
