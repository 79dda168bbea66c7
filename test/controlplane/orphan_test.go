//go:build unix

package controlplane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestKilledParent kills a process that runs a control plane such that it can
// do nothing about it.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), orphanEnv+"="+t.TempDir())
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids map[string]int
	err = json.NewDecoder(stdout).Decode(&pids)
	if killErr := cmd.Process.Kill(); killErr != nil {
		t.Fatal(killErr)
	}
	_ = cmd.Wait()
	if err != nil || len(pids) != 2 {
		t.Fatalf("the child did not start a control plane: %v, %v", pids, err)
	}
	for name, pid := range pids {
		eventually(t, func(context.Context) error {
			if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				return fmt.Errorf("%s, process %d, outlives its parent", name, pid)
			}
			return nil
		})
	}
}
