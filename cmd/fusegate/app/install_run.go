package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/canary"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

// installOptions are the flags of install that consent to one run.
type installOptions struct {
	force, takeOver, dryRun, importConfig, wait bool
	timeout                                     time.Duration
	output                                      string
}

func newInstall() *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install Fusegate, or bring an installation up to date",
		Long: `Applies the manifests by server-side apply: the namespace and the CRDs, rights
and workloads, and the webhook configuration last. That one carries no rules
yet: the controller adds those that the constraints need once the webhook
answers, and --wait waits for it. It can be repeated, also after it was cut off.

With --webhook-sources it waits, too. It then asks every API server by a canary
whether the webhook answers it, applies the NetworkPolicy as the last thing, asks
on for 15 s, and takes it back if one is not answered any more, with exit code 1.

It is refused where Kubernetes is older than 1.30, where Gatekeeper runs, where
somebody else has installed the ConstraintTemplate CRD, and with settings that
are not safe.

` + exitCodes,
		Example: `  fusegate install --wait
  fusegate install --dry-run
  fusegate install --webhook-url https://fusegate.example.com --ca-file ca.crt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	fs := cmd.Flags()
	addSettings(fs, config.Install)
	outputFlag(fs, &o.output)
	fs.BoolVar(&o.force, "force-conflicts", false, "take over fields that others have set")
	fs.BoolVar(&o.takeOver, "take-over-crds", false, "replace a ConstraintTemplate CRD that somebody else installed")
	fs.BoolVar(&o.importConfig, "import-gatekeeper-config", false, "add the namespaces that Gatekeeper's Config excludes from its webhook to exempt.namespaces")
	fs.BoolVar(&o.wait, "wait", false, "wait until the webhook answers and is armed")
	fs.DurationVar(&o.timeout, "timeout", install.DefaultWaitTimeout, "how long --wait waits")
	fs.BoolVar(&o.dryRun, "dry-run", false, "ask the API server what would change, field by field, and change nothing")
	return cmd
}

func (o installOptions) run(cmd *cobra.Command) error {
	if o.timeout <= 0 {
		return fmt.Errorf("--timeout: %v: must be more than nothing, as in 5m", o.timeout)
	}
	p, s, err := plan(cmd)
	if err != nil {
		return err
	}
	report, err := newReport(cmd.OutOrStdout(), cmd.ErrOrStderr(), o.output)
	if err != nil {
		return err
	}
	cluster, err := connect(cmd.Context(), s)
	if err != nil {
		return err
	}
	changes, err := o.apply(cmd.Context(), cluster, p, report)
	if err != nil {
		return errors.Join(err, report.end(""))
	}
	return report.end(o.installed(p.Config, changes))
}

// apply brings the cluster to the plan, with what is imported, and waits for it
// if that is asked for.
func (o installOptions) apply(ctx context.Context, c cluster, p install.Plan, r *report) ([]install.Change, error) {
	p, err := o.exclusions(ctx, c, p, r)
	if err != nil {
		return nil, err
	}
	loss, unknown := install.TakenBack(ctx, c.client, p.Config, unset())
	changes, err := p.Apply(ctx, c.client, install.ApplyOptions{
		Force: o.force, TakeOverCRDs: o.takeOver, DryRun: o.dryRun, Discovery: c.discovery, Progress: r.add,
	})
	if err != nil {
		return changes, err
	}
	noteLoss(loss, unknown, r)
	noteAddOns(ctx, c, p.Config, r)
	if o.dryRun || !o.waits(p.Config) {
		return changes, nil
	}
	if err := p.Wait(ctx, c.client, install.WaitOptions{Timeout: o.timeout, Progress: r.progress}); err != nil {
		return changes, err
	}
	servers := canary.NewCluster(c.config, c.client, p.Config.APIServers)
	last, err := p.Restrict(ctx, c.client, install.RestrictOptions{
		Answered: func(ctx context.Context) error { return canary.Reached(ctx, servers) },
		Timeout:  o.timeout, Watch: timingsOf(ctx).Restrict,
		Apply: install.ApplyOptions{Force: o.force, Progress: r.add}, Waiting: r.progress,
	})
	return append(changes, last...), err
}

// waits tells whether this run waits: a NetworkPolicy needs a webhook that is armed.
func (o installOptions) waits(c config.Config) bool { return o.wait || len(c.WebhookSources) > 0 }

// noteLoss names what this run takes back.
func noteLoss(loss config.Loss, unknown error, r *report) {
	if unknown != nil {
		r.note("what this run takes back of the settings until now could not be found out: %v", unknown)
	}
	if len(loss.Exemptions) > 0 {
		r.note("exempt until now, and no longer: %s. If that is not meant, install with the configuration file that has them.", strings.Join(loss.Exemptions, ", "))
	}
	if len(loss.Resets) > 0 {
		r.note("back to the default: %s. If that is not meant, install with the configuration file or the flags that set it.", strings.Join(loss.Resets, "; "))
	}
}

// exclusions imports what a Gatekeeper Config excludes, or says what is not
// imported.
func (o installOptions) exclusions(ctx context.Context, c cluster, p install.Plan, r *report) (install.Plan, error) {
	found, err := install.GatekeeperExclusions(ctx, c.client)
	if err != nil || found == nil {
		return p, err
	}
	missing, err := found.Missing(p.Config)
	if err != nil || len(missing) == 0 {
		return p, err
	}
	names := strings.Join(missing, ", ")
	if !o.importConfig {
		r.note("%s excludes namespaces that this installation does not: %s; --import-gatekeeper-config adds them to exempt.namespaces.", found.Source, names)
		return p, nil
	}
	imported, err := found.Import(p.Config)
	if err != nil {
		return p, err
	}
	r.note("added to exempt.namespaces what %s excludes: %s. To keep them, list them in your configuration file, or give the flag each time.", found.Source, names)
	return install.Render(imported)
}

// noteAddOns offers to leave alone what looks like part of the cluster. It is
// advice: that it cannot be had is no failure.
func noteAddOns(ctx context.Context, c cluster, in config.Config, r *report) {
	found, err := install.AddOns(ctx, c.client, in)
	if err != nil {
		r.note("whether add-ons run outside the perimeter could not be found out: %v", err)
		return
	}
	if len(found) == 0 {
		return
	}
	names := make([]string, len(found))
	var why strings.Builder
	for i, a := range found {
		names[i] = a.Namespace
		fmt.Fprintf(&why, "\n  %s (%s)", a.Namespace, strings.Join(a.Why, "; "))
	}
	r.note("these namespaces look like part of the cluster, and policies apply in them:%s\n"+
		"To leave them alone, set in the configuration file:\n  exempt:\n    namespaces: [%s]",
		why.String(), strings.Join(append(in.Exempt.Namespaces, names...), ", "))
}

// installed says what comes next.
func (o installOptions) installed(c config.Config, changes []install.Change) string {
	did := func(what install.Action) func(install.Change) bool {
		return func(c install.Change) bool { return c.Action == what }
	}
	switch {
	case o.dryRun:
		return "\nThis was a dry run: nothing was changed.\n"
	case len(c.WebhookSources) > 0:
		return "\nInstalled. The webhook is armed with what the constraints need, answers every API server, and only those from webhookSources.\n"
	case o.wait:
		return "\nInstalled. The webhook answers and is armed with what the constraints need.\n"
	case !slices.ContainsFunc(changes, did(install.Created)) && !slices.ContainsFunc(changes, did(install.Configured)):
		return "\nNothing to do: it is installed as it should be.\n"
	case len(changes) > 0 && changes[len(changes)-1].Action != install.Created:
		return "\nBrought up to date. The webhook's rules are the controller's, and stay in force meanwhile.\n"
	case c.WebhookURL != "":
		return "\nInstalled. The webhook intercepts nothing until fusegate serve answers at " + c.WebhookURL + " and there are constraints.\n"
	}
	return "\nInstalled. The webhook intercepts nothing until its pods answer and there are constraints. To follow:\n" +
		"  kubectl -n " + c.Namespace + " rollout status deployment/" + install.ServiceName + "\n"
}
