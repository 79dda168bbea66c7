package app

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

// image is what the manifests name unless told otherwise.
func image() string { return "ghcr.io/fusegate/fusegate:" + version }

func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary and of the engines in it",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			info := versions()
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(info)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "fusegate %s (%s %s/%s, OPA %s)\n",
				info["version"], info["go"], runtime.GOOS, runtime.GOARCH, info["opa"])
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "output format: json; empty for a line")
	return cmd
}

func versions() map[string]string {
	out := map[string]string{"version": version, "go": runtime.Version(), "opa": "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/open-policy-agent/opa" {
			out["opa"] = dep.Version
		}
	}
	return out
}
