package app

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

// plan renders what a command's settings ask for.
func plan(cmd *cobra.Command) (install.Plan, settings, error) {
	s, err := load(cmd)
	if err != nil {
		return install.Plan{}, s, err
	}
	if err := s.readCA(); err != nil {
		return install.Plan{}, s, err
	}
	if s.InCluster() {
		s.Image = cmp.Or(s.Image, image())
	}
	s.notePerProcess(cmd)
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
			if p.NetworkPolicy != nil {
				cmd.PrintErrln("Note: kubectl apply does not take the NetworkPolicy back if it shuts an API server out, as install does: apply it last, and look whether the constraints stay Enforced")
			}
			text, err := p.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	addSettings(cmd.Flags(), config.Manifests)
	return cmd
}

// notePerProcess names the settings that somebody gave and that an installation
// in the cluster does not pass on to what runs.
func (s settings) notePerProcess(cmd *cobra.Command) {
	for _, key := range s.said {
		setting, _ := config.Find(key)
		if s.InCluster() && slices.Equal(setting.Commands, []config.Command{config.Serve}) {
			cmd.PrintErrf("Note: %s is not passed on to what runs in the cluster: %s.\n", key, setting.PerProcess)
		}
	}
}
