// Package app is the command line of Fusegate: one small file for each command,
// and the construction of what runs. The binary's main calls Main, and so do tests
// that need fusegate in a process of its own.
//
// Flags, environment and configuration files are read here and nowhere else.
package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/printable"
	"github.com/fusegate/fusegate/pkg/timing"
)

// The exit codes.
const (
	exitOK      = 0
	exitError   = 1
	exitRefused = 2
)

// exitCodes explains them in the help of commands.
const exitCodes = `Exit codes: 0 done, or nothing to do; 1 failed, so that trying again may help;
2 refused, for a reason that has to be put right first.`

// Main runs the command that args name and returns the exit code of the process.
// Signals that ask the process to stop end the command in good order; a second one
// ends the process at once.
func Main(args []string) int { return MainTimed(args, timing.Timings{}) }

// MainTimed is Main with other intervals than those of production, for tests: no
// flag, variable or file sets them.
func MainTimed(args []string, t timing.Timings) int {
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	context.AfterFunc(ctx, stop)
	return run(context.WithValue(ctx, timingsKey{}, t), args)
}

type timingsKey struct{}

// timingsOf are those that the process was started with.
func timingsOf(ctx context.Context) timing.Timings {
	t, _ := ctx.Value(timingsKey{}).(timing.Timings)
	return t
}

// endings are the signals that end the process in good order. A closed terminal
// is one of them, unless nohup says otherwise.
func endings() []os.Signal {
	out := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		out = append(out, syscall.SIGHUP)
	}
	return out
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(goFlags(args))
	if err := root.ExecuteContext(ctx); err != nil {
		if err.Error() != "" {
			fmt.Fprintln(os.Stderr, "Error:", printable.Text(err.Error()))
		}
		return exitCode(err)
	}
	return exitOK
}

func exitCode(err error) int {
	if own := (exit{}); errors.As(err, &own) {
		return own.code
	}
	if errors.Is(err, install.ErrRefused) {
		return exitRefused
	}
	return exitError
}
