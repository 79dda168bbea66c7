// Command fusegate is all of Fusegate in one binary: what runs in the cluster
// (serve), what puts it there (install, manifests) and what shows it working
// on a real control plane of its own (demo).
//
// Flags, environment and configuration files are read here and nowhere else.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// The exit codes.
const (
	exitOK    = 0
	exitError = 1
)

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		return exitError
	}
	return exitOK
}
