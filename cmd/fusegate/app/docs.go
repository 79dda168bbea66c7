package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// newDocs writes the pages about the commands. It is for those who build
// Fusegate, and hidden from others.
func newDocs() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:    "docs folder",
		Short:  "Write a page for each command, in Markdown or as manual pages",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeDocs(cmd.Root(), args[0], format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "markdown", "markdown or man")
	return cmd
}

// writeDocs writes the pages of all commands into a folder and removes those of
// commands that there are no more.
func writeDocs(root *cobra.Command, folder, format string) error {
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	everywhere(root)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("writing the pages: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(folder, "fusegate*"))
	if err != nil {
		return err
	}
	for _, page := range old {
		if err := os.Remove(page); err != nil {
			return fmt.Errorf("removing an old page: %w", err)
		}
	}
	switch format {
	case "markdown":
		return doc.GenMarkdownTree(root, folder)
	case "man":
		epoch := time.Unix(0, 0).UTC() // the same pages whenever they are made
		return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Fusegate", Date: &epoch}, folder)
	}
	return errors.New("--format: use markdown or man")
}

// everywhere takes out of the defaults what differs between machines.
func everywhere(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "parallel" {
			f.DefValue = "as many as there are processors"
		}
		if home, err := os.UserHomeDir(); err == nil && home != "/" {
			f.DefValue = strings.ReplaceAll(f.DefValue, home, "$HOME")
		}
	})
	for _, sub := range cmd.Commands() {
		everywhere(sub)
	}
}
