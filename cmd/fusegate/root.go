package main

import (
	"github.com/spf13/cobra"
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
this order of precedence.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newServe(), newInstall(), newUninstall(), newManifests(), newDemo(), newVersion())
	return root
}
