package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/fusegate/fusegate/test/controlplane"
)

// grace is how long fusegate serve may take to end before it is killed.
const grace = 30 * time.Second

// environment is that of fusegate: the user's without what FUSEGATE_* variables
// say about another cluster.
func environment(kubeconfig string) []string {
	out := []string{"KUBECONFIG=" + kubeconfig}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FUSEGATE_") && !strings.HasPrefix(v, "KUBECONFIG=") {
			out = append(out, v)
		}
	}
	return out
}

// fusegate returns a command of the binary ready to start in the stage's folder.
func (s *stage) fusegate(out, log io.Writer, args ...string) *exec.Cmd {
	cmd := exec.Command(s.binary, args...)
	cmd.Dir, cmd.Env = s.dir, environment(s.cp.Kubeconfig(controlplane.Admin))
	cmd.Stdout, cmd.Stderr = out, log
	return cmd
}

// server is fusegate serve in a process of its own.
type server struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid once done is closed
}

// launch starts a command that does not outlive the demo.
func launch(cmd *exec.Cmd) (*server, error) {
	release, err := controlplane.Spawn(cmd)
	if err != nil {
		return nil, fmt.Errorf("starting fusegate %s: %w", cmd.Args[1], err)
	}
	s := &server{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = cmd.Wait()
		release()
	}()
	return s, nil
}

// stop ends it, by force if it takes too long, and returns its error.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // one that has ended says why in err
	late := time.AfterFunc(grace, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
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

// tail is the end of a log, for an error's text.
func tail(file string) string {
	const most = 2000
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
