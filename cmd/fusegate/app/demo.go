package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/test/controlplane"
)

// demoTimeout bounds the demo, the start of the control plane included.
const demoTimeout = 5 * time.Minute

func newDemo() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show Fusegate at work on a real control plane of its own",
		Long: `Starts etcd, kube-apiserver and kube-controller-manager on loopback ports,
installs Fusegate, applies policies with kubectl, and shows an object denied,
one warned of and one allowed. Everything is stopped and removed in the end.

FUSEGATE_* variables do not touch it.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := forgetSettings(); err != nil {
				return err
			}
			return demo(cmd.Context(), cmd.OutOrStdout(), keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave it running until interrupted, and print a kubeconfig")
	return cmd
}

// forgetSettings keeps the commands that the demo runs away from what the
// environment says about another cluster.
func forgetSettings() error {
	errs := []error{os.Setenv(envName("config"), "")}
	for flag := range flagKeys {
		errs = append(errs, os.Unsetenv(envName(flag)))
	}
	return errors.Join(errs...)
}

func demo(ctx context.Context, out io.Writer, keep bool) (err error) {
	started := time.Now()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errors.New("the demo was interrupted; everything is stopped and removed")
		}
	}()
	timed, done := context.WithTimeoutCause(ctx, demoTimeout, fmt.Errorf("it takes longer than %v", demoTimeout))
	defer done()
	_, _ = fmt.Fprintln(out, "Starting a control plane of its own; this takes some seconds ...")
	cp, err := controlplane.Start(timed, controlplane.Options{ControllerManager: true, Log: out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Stop()) }()
	s, err := newStage(out, cp)
	if err != nil {
		return err
	}
	if err := s.install(timed); err != nil {
		return err
	}
	server := s.serve(ctx)
	defer func() { err = errors.Join(err, server.stop()) }()
	if err := s.play(server.tie(timed)); err != nil {
		return fmt.Errorf("%w\nthe log of fusegate serve ends:\n%s", err, tail(s.file(serveLog)))
	}
	_, _ = fmt.Fprintf(out, "\nThat took %.0f s, the start of the control plane included.\n", time.Since(started).Seconds())
	if !keep {
		_, _ = fmt.Fprintln(out, "Stopping and removing everything. To look around: make demo KEEP=1")
		return nil
	}
	s.invite()
	<-server.tie(ctx).Done()
	return nil
}

// invite tells how to look around.
func (s *stage) invite() {
	path := ""
	if assets, err := controlplane.Binaries(); err == nil {
		path = fmt.Sprintf("  export PATH=%s:$PATH\n", filepath.Dir(assets.Kubectl))
	}
	_, _ = fmt.Fprintf(s.out, `
It keeps running until you press Ctrl-C (or: kill %d). In another terminal:

  cd %s
  export KUBECONFIG=%s
%s  kubectl get constraints

The log of fusegate serve is %s there.
`, os.Getpid(), s.dir, s.cp.Kubeconfig(controlplane.Admin), path, serveLog)
}

// tail is the end of a log, for an error's text.
func tail(file string) string {
	const most = 2000
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// server is fusegate serve in this process.
type server struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

// stop ends it and returns its error.
func (s *server) stop() error {
	s.cancel()
	<-s.done
	return s.err
}

// tie returns a context that ends with the server.
func (s *server) tie(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.done:
		case <-ctx.Done():
		}
		cancel(errors.New("fusegate serve ended"))
	}()
	return ctx
}
