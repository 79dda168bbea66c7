// Command demo shows Fusegate at work on a real control plane of its own. It
// starts etcd and kube-apiserver on loopback ports, and kube-controller-manager if
// all is to be kept, installs Fusegate, applies policies with kubectl, and shows an
// object denied, one warned of and one allowed. Everything is stopped and removed in
// the end.
//
// Run it from the root of the repository, where make demo builds what it needs:
//
//	go run ./hack/demo -binary bin/fusegate
//
// FUSEGATE_* variables do not reach the commands that it runs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

// run plays the demo until it is over or interrupted, and returns the exit code.
func run(args []string) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	binary := flags.String("binary", "bin/fusegate", "the fusegate to show")
	keep := flags.Bool("keep", false, "leave it running until interrupted, and print a kubeconfig")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	path, err := filepath.Abs(*binary)
	if err == nil {
		err = demo(ctx, os.Stdout, path, *keep)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		return 1
	}
	return 0
}

// endings are the signals that end the demo in good order. A closed terminal is
// one of them, unless nohup says otherwise.
func endings() []os.Signal {
	out := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		out = append(out, syscall.SIGHUP)
	}
	return out
}
