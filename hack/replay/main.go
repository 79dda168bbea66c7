// Command replay replays the outage that Fusegate is there to prevent, on a
// real control plane: an admission webhook whose backend hangs, and an API
// server that starts meanwhile and has something to write, as after an upgrade.
// It does so for several shapes of webhook and prints for each whether that API
// server came up, and how long the writes took that a cluster lives by.
//
// Run it from the root of the repository:
//
//	make replay
//
// Progress goes to standard error, the table to standard output, as Markdown or
// with -o json. It takes about ten minutes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

func main() {
	runs := flag.Int("runs", 3, "how often each webhook is tried; the median counts")
	format := flag.String("o", "markdown", "output format: markdown or json")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := run(ctx, *runs, *format); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, runs int, format string) error {
	if runs < 1 {
		return fmt.Errorf("-runs %d: use 1 or more", runs)
	}
	if !slices.Contains([]string{"markdown", "json"}, format) {
		return fmt.Errorf("-o %q: use markdown or json", format)
	}
	s, err := newStage(ctx, os.Stderr)
	if err != nil {
		return err
	}
	rows, err := s.play(ctx, shapes(), runs)
	if err = errors.Join(err, s.close()); err != nil {
		return err
	}
	if format == "json" {
		return writeJSON(os.Stdout, rows)
	}
	return writeMarkdown(os.Stdout, rows)
}
