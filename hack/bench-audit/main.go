// Command bench-audit measures the audit on a real API server on this machine:
// how long the first pass over many Pods takes, how much memory the process
// needs, what it costs when nothing happens, without a webhook and with one, and
// how soon a change of a hundredth of the Pods shows in the status of constraints.
//
// Run it from the root of the repository with the binary to measure:
//
//	make bench-audit
//
// Progress goes to standard error, the figures to standard output.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.binary, "binary", "bin/fusegate", "the fusegate to measure")
	flag.IntVar(&o.pods, "pods", 10000, "how many Pods there are, in 50 namespaces")
	flag.IntVar(&o.constraints, "constraints", 49, "how many constraints there are at least")
	flag.IntVar(&o.onPods, "on-pods", 33, "how many of them match Pods at least")
	flag.DurationVar(&o.idle, "idle", 30*time.Second, "how long to watch it doing nothing")
	flag.StringVar(&o.logLevel, "log-level", "error", "what the fusegate logs to standard error: error, info, debug")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-audit:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	binary, logLevel          string
	pods, constraints, onPods int
	idle                      time.Duration
}

func run(ctx context.Context, o options) (err error) {
	s, err := newStage(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		if stopped := s.plane.Stop(); err == nil {
			err = stopped
		}
	}()
	if err := s.populate(ctx); err != nil {
		return err
	}
	return s.measure(ctx)
}
