package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fusegate/fusegate/test/controlplane"
)

// demoTimeout bounds the demo, the start of the control plane included.
const demoTimeout = 5 * time.Minute

// demo starts a control plane, installs the binary on it and plays.
func demo(ctx context.Context, out io.Writer, binary string, keep bool) (err error) {
	started := time.Now()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errors.New("the demo was interrupted; everything is stopped and removed")
		}
	}()
	timed, done := context.WithTimeoutCause(ctx, demoTimeout, fmt.Errorf("it takes longer than %v", demoTimeout))
	defer done()
	_, _ = fmt.Fprintln(out, "Starting a control plane of its own; this takes some seconds ...")
	// Deployments and their like are for those who look around.
	cp, err := controlplane.Start(timed, controlplane.Options{ControllerManager: keep, Log: out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Stop()) }()
	s, err := newStage(out, cp, binary)
	if err != nil {
		return err
	}
	if err := s.install(timed); err != nil {
		return err
	}
	server, err := s.serve()
	if err != nil {
		return err
	}
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
	_, _ = fmt.Fprintf(s.out, `
It keeps running until you press Ctrl-C (or: kill %d). In another terminal:

  cd %s
  export KUBECONFIG=%s
  export PATH=%s:%s:$PATH
  kubectl get constraints

The log of fusegate serve is %s there.
`, os.Getpid(), s.dir, s.cp.Kubeconfig(controlplane.Admin), filepath.Dir(s.kubectlPath), filepath.Dir(s.binary), serveLog)
}
