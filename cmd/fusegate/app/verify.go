package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/printable"
	"github.com/fusegate/fusegate/pkg/suite"
)

// verify holds the flags of fusegate verify.
type verify struct {
	run      string
	verbose  bool
	parallel int
	timeout  time.Duration
	format   func() (output.Format, error)
	watch    bool
	out, err io.Writer
}

func newVerify() *cobra.Command {
	v := &verify{}
	cmd := &cobra.Command{
		Use:   "verify [path | folder/...]...",
		Short: "Run test suites of templates and constraints",
		Long: `Runs Suite files (test.gatekeeper.sh/v1alpha1) as gator verify does: each case
puts an object before a constraint and asserts what it finds. A path is a suite,
a folder with suites, or, with /... at its end, a folder and all below it. Without
a path it is ./...

Exit codes: 0 all passed; 1 a case failed; 2 something could not be run.`,
		Example: `  # All suites below this folder
  fusegate verify ./...

  # The cases with "tag" in their name, in tests with "registry" in theirs
  fusegate verify ./... -run registry//tag -v

  # For a CI system
  fusegate verify ./... -o junit >report.xml

  # Again whenever a file changes
  fusegate verify templates/... --watch`,
		RunE: func(cmd *cobra.Command, args []string) error {
			v.out, v.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return v.main(cmd.Context(), args)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&v.run, "run", "r", "", `regular expression of the tests or cases to run, or "tests//cases"`)
	flags.BoolVarP(&v.verbose, "verbose", "v", false, "name what passes and what is skipped, too")
	flags.IntVarP(&v.parallel, "parallel", "p", 0, "how many tests to run at once; 0 is one for each processor")
	flags.DurationVar(&v.timeout, "timeout", suite.DefaultTimeout, "how long one case may take")
	v.format = formatFlag(cmd, output.SuiteFormats())
	flags.BoolVar(&v.watch, "watch", false, "run the suites again whose files change, until interrupted")
	offline(cmd)
	return cmd
}

func (v *verify) main(ctx context.Context, args []string) error {
	format, err := v.format()
	if err != nil {
		return err
	}
	runner, err := v.runner(format)
	if err != nil {
		return err
	}
	c := offlineCompiler()
	defer c.Close()
	runner.Compiler = c
	if len(args) == 0 {
		args = []string{"./..."}
	}
	if v.watch {
		return v.follow(ctx, runner, args)
	}
	outcome, err := v.once(ctx, runner, args, format)
	return verdict(outcome, err)
}

func (v *verify) runner(format output.Format) (*suite.Runner, error) {
	if v.watch && format != output.Text {
		return nil, fmt.Errorf("--watch writes text only: leave out -o %s", format)
	}
	if v.parallel < 0 || v.timeout <= 0 {
		return nil, errors.New("--timeout must be greater than zero, and --parallel not negative")
	}
	filter, err := suite.NewFilter(v.run)
	if err != nil {
		return nil, fmt.Errorf("--run %q: %w", v.run, err)
	}
	return &suite.Runner{Filter: filter, Parallel: v.parallel, Timeout: v.timeout}, nil
}

// once finds and runs the suites. What could not be read does not keep the
// others from being run.
func (v *verify) once(ctx context.Context, runner *suite.Runner, args []string, format output.Format) (output.Outcome, error) {
	var all []*suite.Suite
	var unread []error
	for _, target := range args {
		suites, err := suite.Find(suite.Disk{}, target)
		all, unread = append(all, suites...), append(unread, err)
	}
	outcome, err := v.write(ctx, runner, all, errors.Join(unread...), format)
	return outcome, errors.Join(append(unread, err)...)
}

func (v *verify) write(ctx context.Context, runner *suite.Runner, all []*suite.Suite, unread error, format output.Format) (output.Outcome, error) {
	for _, s := range all {
		for _, w := range s.Warnings {
			_, _ = fmt.Fprintln(v.err, "Warning:", printable.Line(w))
		}
	}
	w := output.NewSuiteWriter(v.out, format, v.verbose, version)
	outcome := output.Passed
	if unread != nil {
		outcome = output.Broken
	}
	var errs []error
	err := runner.Run(ctx, all, func(r *output.Suite) {
		outcome = max(outcome, r.Outcome())
		errs = append(errs, w.Suite(r))
	})
	return outcome, errors.Join(append(errs, err, w.End(outcome, unread))...)
}

// follow runs the suites, and again those whose files change, until ctx ends.
func (v *verify) follow(ctx context.Context, runner *suite.Runner, args []string) error {
	err := suite.Watch(ctx, args, func(suites []*suite.Suite, unread error) error {
		if unread != nil {
			_, _ = fmt.Fprintln(v.err, "Error:", printable.Text(unread.Error()))
		}
		if _, err := v.write(ctx, runner, suites, unread, output.Text); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return exit{exitBroken, err}
}

// verdict is the error that makes the exit code of an outcome.
func verdict(outcome output.Outcome, err error) error {
	switch {
	case err != nil || outcome == output.Broken:
		return exit{exitBroken, err}
	case outcome == output.Failed:
		return exit{exitError, nil}
	}
	return nil
}

// goFlags lets -run be written as go test has it, which pflag takes for -r un.
func goFlags(args []string) []string {
	if !slices.Contains(args, "verify") {
		return args
	}
	out := slices.Clone(args)
	for i, a := range out {
		if a == "-run" || strings.HasPrefix(a, "-run=") {
			out[i] = "-" + a
		}
	}
	return out
}
