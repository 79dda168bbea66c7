package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"github.com/fusegate/fusegate/test/controlplane"
)

// Process is a running fusegate.
type Process struct {
	Started time.Time
	cmd     *exec.Cmd
}

// Serve starts fusegate serve, whose errors go to standard error.
func Serve(ctx context.Context, binary string, plane *controlplane.ControlPlane, args ...string) (*Process, error) {
	p := &Process{Started: time.Now(), cmd: exec.CommandContext(ctx, binary, append([]string{"serve"}, args...)...)}
	p.cmd.Env = append(os.Environ(), "KUBECONFIG="+plane.Kubeconfig(controlplane.Admin))
	p.cmd.Stderr = os.Stderr
	return p, p.cmd.Start()
}

// Stop has the process end, and waits until it has.
func (p *Process) Stop() error {
	return errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait())
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// CPU is the processor time that the process has had.
func (p *Process) CPU() (time.Duration, error) { return CPU(p.PID()) }

// Memory is what the process takes, in bytes.
func (p *Process) Memory() (procfs.ProcStatus, error) {
	proc, err := procfs.NewProc(p.PID())
	if err != nil {
		return procfs.ProcStatus{}, fmt.Errorf("finding the process: %w", err)
	}
	return proc.NewStatus()
}

// CPU is the processor time that a process has had.
func CPU(pid int) (time.Duration, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return 0, fmt.Errorf("finding process %d: %w", pid, err)
	}
	stat, err := proc.Stat()
	return seconds(stat.CPUTime()), err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
