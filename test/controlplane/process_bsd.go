//go:build unix && !linux

package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// guardScript waits for the end of its input and then kills. Only this process
// holds the other end of the pipe, so the end comes when it has died.
const guardScript = `while read -r _; do :; done; kill -9 "$1"`

// startGuarded starts the command in a process group of its own, so that a
// Ctrl-C at the terminal reaches only the parent, and beside it a shell that
// kills it when this process is gone: there is no death signal here.
func startGuarded(cmd *exec.Cmd) (release func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	release, err = guard(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, errors.Join(fmt.Errorf("starting its guard: %w", err), cmd.Wait())
	}
	return release, nil
}

func guard(pid int) (release func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	shell := exec.Command("/bin/sh", "-c", guardScript, "guard", strconv.Itoa(pid))
	shell.Stdin = r
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = shell.Start()
	_ = r.Close()
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
		_ = w.Close()
	}, nil
}
