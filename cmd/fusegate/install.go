package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/install"
)

func installFlags(fs *pflag.FlagSet) {
	configFlag(fs)
	fs.String("namespace", "", "namespace of Fusegate's own objects (default fusegate-system)")
	fs.String("image", "", "container image (default "+image()+")")
	fs.String("webhook-url", "", "https `URL` where the API servers reach a webhook that runs outside the cluster")
	fs.String("ca-file", "", "PEM `file` with the certificate authority of --webhook-url")
	fs.Int32("timeout-seconds", 0, "how long the API server waits for the webhook, 1 to 3 (default 3)")
}

// plan renders what a command's settings ask for.
func plan(cmd *cobra.Command) (install.Plan, settings, error) {
	s, err := load(cmd)
	if err != nil {
		return install.Plan{}, s, err
	}
	if file, _ := cmd.Flags().GetString("ca-file"); file != "" {
		if s.CABundle, err = os.ReadFile(file); err != nil {
			return install.Plan{}, s, fmt.Errorf("--ca-file: %w", err)
		}
	}
	if s.WebhookURL == "" {
		s.Image = cmp.Or(s.Image, image())
	}
	p, err := install.Render(s.Config)
	return p, s, err
}

func newManifests() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "manifests",
		Short: "Print what install would apply, as YAML",
		Example: `  fusegate manifests | kubectl apply -f -
  fusegate manifests --webhook-url https://fusegate.example.com --ca-file ca.crt`,
		Args: cobra.NoArgs,
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
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, s, err := plan(cmd)
			if err != nil {
				return err
			}
			p.Config.TakeOverCRDs = takeOver
			cluster, err := connect(s)
			if err != nil {
				return err
			}
			report, err := newReport(cmd.OutOrStdout(), output)
			if err != nil {
				return err
			}
			_, err = p.Apply(cmd.Context(), cluster.client, install.ApplyOptions{
				Force: force, DryRun: dryRun, Discovery: cluster.discovery, Progress: report.add,
			})
			return errors.Join(err, report.end())
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
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := load(cmd)
			if err != nil {
				return err
			}
			cluster, err := connect(s)
			if err != nil {
				return err
			}
			report, err := newReport(cmd.OutOrStdout(), output)
			if err != nil {
				return err
			}
			_, err = install.Remove(cmd.Context(), cluster.client, s.Config, install.RemoveOptions{
				Policies: policies, DryRun: dryRun, Progress: report.add,
			})
			return errors.Join(err, report.end())
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

// cluster is a connection that does not read from a cache.
type cluster struct {
	client    client.Client
	discovery *discovery.DiscoveryClient
}

func connect(s settings) (cluster, error) {
	cfg, err := s.restConfig()
	if err != nil {
		return cluster{}, err
	}
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		return cluster{}, fmt.Errorf("connecting to the cluster: %w", err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return cluster{}, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return cluster{client: c, discovery: d}, nil
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
	if format != "" && format != "json" {
		return nil, fmt.Errorf("--output %q: want json or nothing", format)
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

func (r *report) end() error {
	if !r.json {
		return nil
	}
	enc := json.NewEncoder(r.out)
	enc.SetIndent("", "  ")
	return enc.Encode(r.changes)
}
