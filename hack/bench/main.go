// Command bench compares Fusegate's engine with the constraint framework's own
// client and driver, in one process and on the same policies and reviews, and
// measures the webhook over HTTPS. Both sides of every ratio are printed, and
// before anything is measured both sides must have found the same violations.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/fusegate/fusegate/pkg/engine"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each side is measured; the sides take turns and the median counts")
	budget := flag.Duration("time", time.Second, "how long one side is measured in one round for one review")
	alone := flag.Bool("scale", false, "only measure many templates and constraints")
	server := flag.Bool("server", false, "only measure the creation of Pods through a real API server")
	binary := flag.String("serve", "", "only measure the memory of this `fusegate` with many templates and constraints, on a real API server")
	flag.Parse()
	part := func(ctx context.Context) error { return run(ctx, *rounds, *budget) }
	switch {
	case *alone:
		part = scale
	case *server:
		part = throughServer
	case *binary != "":
		part = func(ctx context.Context) error { return serving(ctx, *binary) }
	}
	if err := part(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, budget time.Duration) error {
	library, err := loadLibrary()
	if err != nil {
		return err
	}
	ours, err := newOurs(ctx, library, engine.New)
	if err != nil {
		return err
	}
	interpreted, err := newOurs(ctx, library, engine.NewReference)
	if err != nil {
		return err
	}
	stock, err := newStock(ctx, library)
	if err != nil {
		return err
	}
	reviews := pods()
	compiled := len(library.templates) - len(ours.Interpreted())
	fmt.Printf("%d templates, %d of them compiled, %d constraints\n\n", len(library.templates), compiled, len(library.constraints))
	if err := agree(ctx, reviews, ours, stock); err != nil {
		return err
	}
	means := compare(ctx, reviews, []named{{"compiled", ours}, {"interpreted", interpreted}, {"stock", stock}}, rounds, budget)
	if err := overHTTPS(ctx, ours, library, reviews[0]); err != nil {
		return err
	}
	if err := apart(ctx, "-scale"); err != nil {
		return err
	}
	mine, reference, theirs := means[0], means[1], means[2]
	fmt.Printf("\ncompiled over interpreted: %.2f\np50: %.2f\np99: %.2f\nspeedup: %.2f\nallocs: %.2f\n",
		ratio(reference.mean, mine.mean), ratio(theirs.p50, mine.p50), ratio(theirs.p99, mine.p99), ratio(theirs.mean, mine.mean), theirs.allocs/mine.allocs)
	return nil
}

// apart runs a part of the benchmark in a process of its own.
func apart(ctx context.Context, part string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, self, part)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }
