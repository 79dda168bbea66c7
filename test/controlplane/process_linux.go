package controlplane

import (
	"os/exec"
	"syscall"
)

// startGuarded starts the command in a process group of its own, so that a
// Ctrl-C at the terminal reaches only the parent, which then stops things in
// order. Should the parent die, the kernel kills the child. It must run on the
// spawner's thread.
func startGuarded(cmd *exec.Cmd) (release func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return func() {}, cmd.Start()
}
