package app

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fusegate/fusegate/pkg/install"
)

// reportFlags are settings of install, which grants the rights, and of serve.
func reportFlags(fs *pflag.FlagSet) {
	fs.StringSlice("reports", nil, "write what audit finds as report objects in these `formats`: openreports, policyreport")
	fs.Int32("report-limit", 0, "how many reports there may be of a format (default 10000)")
}

func installFlags(fs *pflag.FlagSet) {
	configFlag(fs)
	fs.String("namespace", "", "namespace of Fusegate's own objects (default fusegate-system)")
	fs.String("image", "", "container image (default "+image()+")")
	fs.String("webhook-url", "", "https `URL` where the API servers reach a webhook that runs outside the cluster")
	fs.String("ca-file", "", "PEM `file` with the certificate authority of --webhook-url")
	fs.Int32("service-port", 0, "port of the webhook's Service (default 443)")
	secretsFlag(fs)
	fs.Int32("timeout-seconds", 0, "how long the API server waits for the webhook, 1 to 3 (default 3)")
	fs.Int32("webhook-replicas", 0, "pods that answer the API server (default 3)")
	fs.Int32("controller-replicas", 0, "pods of which one leads (default 2)")
	reportFlags(fs)
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
			if len(p.Definitions) > 0 {
				cmd.PrintErrln("Note: the definitions of reports are not printed, since they may be there already, of somebody else's; " +
					"if they are not, apply those in manifests/crds/reports")
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
		"apiServers":    len(s.APIServers) > 0,
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
