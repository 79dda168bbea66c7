package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fusegate/fusegate/pkg/install"
)

func installFlags(fs *pflag.FlagSet) {
	configFlag(fs)
	fs.String("namespace", "", "namespace of Fusegate's own objects (default fusegate-system)")
	fs.String("image", "", "container image (default "+image()+")")
	fs.String("webhook-url", "", "https `URL` where the API servers reach a webhook that runs outside the cluster")
	fs.String("ca-file", "", "PEM `file` with the certificate authority of --webhook-url")
	fs.Int32("timeout-seconds", 0, "how long the API server waits for the webhook, 1 to 3 (default 3)")
	fs.Int32("webhook-replicas", 0, "pods that answer the API server (default 3)")
	fs.Int32("controller-replicas", 0, "pods of which one leads (default 2)")
}

// plan renders what a command's settings ask for.
func plan(cmd *cobra.Command) (install.Plan, settings, error) {
	s, err := load(cmd)
	if err != nil {
		return install.Plan{}, s, err
	}
	if err := s.readCA(); err != nil {
		return install.Plan{}, s, err
	}
	if s.WebhookURL == "" {
		s.Image = cmp.Or(s.Image, image())
	}
	for _, key := range s.lost() {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "Note: %s is a setting of serve; what runs in the cluster does not get it.\n", key)
	}
	p, err := install.Render(s.Config)
	return p, s, err
}

// readCA fills CABundle from CAFile.
func (s *settings) readCA() (err error) {
	switch {
	case s.CAFile != "" && len(s.CABundle) > 0:
		return errors.New("--ca-file (caFile) and caBundle are both given: leave one out")
	case s.CAFile != "" && s.WebhookURL == "":
		return errors.New("--ca-file is for --webhook-url, which is empty: leave it out, as Fusegate makes the certificate of its Service itself")
	case s.CAFile == "" && len(s.CABundle) == 0 && s.WebhookURL != "":
		return errors.New("--webhook-url needs --ca-file: name the PEM file that the webhook's certificate is verified with, or set caBundle in the configuration file")
	case s.CAFile == "":
		return nil
	}
	if s.CABundle, err = os.ReadFile(s.CAFile); err != nil {
		return fmt.Errorf("--ca-file: %w", err)
	}
	return nil
}

func newManifests() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "manifests",
		Short: "Print what install would apply, as YAML",
		Example: `  fusegate manifests | kubectl apply -f -
  fusegate manifests --webhook-url https://fusegate.example.com --ca-file ca.crt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, _, err := plan(cmd)
			if err != nil {
				return err
			}
			text, err := p.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	installFlags(cmd.Flags())
	return cmd
}

func newInstall() *cobra.Command {
	var force, takeOver, dryRun bool
	var output string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install Fusegate, or bring an installation up to date",
		Long: `Applies the manifests by server-side apply. The webhook configuration carries no
rules yet: the controller adds those that the constraints need once the webhook
answers. Kubernetes 1.30 or newer is required.`,
		Example: `  fusegate install
  fusegate install --webhook-url https://fusegate.example.com --ca-file ca.crt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, s, err := plan(cmd)
			if err != nil {
				return err
			}
			p.Config.TakeOverCRDs = takeOver
			report, err := newReport(cmd.OutOrStdout(), output)
			if err != nil {
				return err
			}
			cluster, err := connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			_, err = p.Apply(cmd.Context(), cluster.client, install.ApplyOptions{
				Force: force, DryRun: dryRun, Discovery: cluster.discovery, Progress: report.add,
			})
			if err != nil {
				return errors.Join(err, report.end(""))
			}
			return report.end(installed(p.Config, dryRun))
		},
	}
	fs := cmd.Flags()
	installFlags(fs)
	clusterFlags(fs)
	outputFlag(fs, &output)
	fs.BoolVar(&force, "force-conflicts", false, "take over fields that others have set")
	fs.BoolVar(&takeOver, "take-over-crds", false, "replace a ConstraintTemplate CRD that somebody else installed")
	fs.BoolVar(&dryRun, "dry-run", false, "ask the API server what would change, and change nothing")
	return cmd
}

func newUninstall() *cobra.Command {
	var policies, dryRun bool
	var output string
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove Fusegate: the webhook configuration first",
		Long: `Removes what install applied. Templates and constraints stay, unless --policies
is given.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := load(cmd)
			if err != nil {
				return err
			}
			report, err := newReport(cmd.OutOrStdout(), output)
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
	configFlag(fs)
	clusterFlags(fs)
	outputFlag(fs, &output)
	fs.String("namespace", "", "namespace of Fusegate's own objects (default fusegate-system)")
	fs.BoolVar(&policies, "policies", false, "remove all templates and constraints too")
	fs.BoolVar(&dryRun, "dry-run", false, "say what would go, and remove nothing")
	return cmd
}

func outputFlag(fs *pflag.FlagSet, output *string) {
	fs.StringVarP(output, "output", "o", "", "output format: json; empty for a line per object")
}

// lost lists the settings of serve that an installation in the cluster would
// silently do without: its pods know only what install.Config holds.
func (s settings) lost() []string {
	if s.WebhookURL != "" {
		return nil
	}
	var out []string
	for key, given := range map[string]bool{
		"certDir": s.CertDir != "", "healthListen": s.HealthListen != "", "listen": s.Listen != "",
		"logDenies": s.LogDenies, "logFormat": s.LogFormat != "", "logLevel": s.LogLevel != "",
		"metricsListen": s.MetricsListen != "", "podName": s.PodName != "", "roles": len(s.Roles) > 0,
		"rotateCerts": s.RotateCerts,
	} {
		if given {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// report shows changes: as they happen, or as one JSON document at the end.
type report struct {
	out     io.Writer
	json    bool
	changes []jsonChange
}

type jsonChange struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Namespace  string         `json:"namespace,omitempty"`
	Name       string         `json:"name"`
	Action     install.Action `json:"action"`
}

func newReport(out io.Writer, format string) (*report, error) {
	if err := checkOutput(format); err != nil {
		return nil, err
	}
	return &report{out: out, json: format == "json", changes: []jsonChange{}}, nil
}

func (r *report) add(c install.Change) {
	if !r.json {
		_, _ = fmt.Fprintf(r.out, "%s %s\n", c.Object, c.Action)
		return
	}
	r.changes = append(r.changes, jsonChange{
		APIVersion: c.Object.GroupVersion().String(), Kind: c.Object.Kind,
		Namespace: c.Object.Namespace, Name: c.Object.Name, Action: c.Action,
	})
}

// end closes the report, with a last word for people.
func (r *report) end(word string) error {
	if !r.json {
		_, err := io.WriteString(r.out, word)
		return err
	}
	enc := json.NewEncoder(r.out)
	enc.SetIndent("", "  ")
	return enc.Encode(r.changes)
}

// installed says what comes next.
func installed(c install.Config, dryRun bool) string {
	switch {
	case dryRun:
		return "\nThis was a dry run: nothing was changed.\n"
	case c.WebhookURL != "":
		return "\nInstalled. The webhook intercepts nothing until fusegate serve answers at " + c.WebhookURL + " and there are constraints.\n"
	}
	return "\nInstalled. The webhook intercepts nothing until its pods answer and there are constraints. To follow:\n" +
		"  kubectl -n " + c.Namespace + " rollout status deployment/" + install.ServiceName + "\n"
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
	return "\nRemoved, except for templates and constraints; --policies removes those too.\n"
}
