package app

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMemoryTogether has a process that is full, and its compiler, share a limit, and
// wants 80 % of it to be enough. Where it can make a control group of version 2 with
// memory, the limit is the kernel's, which would end both at once.
func TestMemoryTogether(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asFull+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	group, why := memoryGroup(t)
	if why != nil {
		t.Log("the kernel does not watch:", why)
	} else {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	most := int64(0)
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v: %s", err, &errs)
			}
			if limit := int64(smallLimit) * 8 / 10; most == 0 || most > limit {
				t.Errorf("they had %d MiB together, want %d at most", most/mib, limit/mib)
			}
			t.Logf("%d of %d MiB", most/mib, smallLimit/mib)
			return
		default:
			most = max(most, together(cmd.Process.Pid))
		}
	}
}

// together is how much memory a process and its children have, in bytes, without
// their file, which they share.
func together(pid int) int64 {
	sum := int64(0)
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may have ended
		if filepath.Dir(file) == fmt.Sprintf("/proc/%d", pid) || strings.Contains(string(text), fmt.Sprintf("\nPPid:\t%d\n", pid)) {
			_, after, _ := strings.Cut(string(text), "RssAnon:")
			var kib int64
			_, _ = fmt.Sscan(after, &kib)
			sum += kib << 10
		}
	}
	return sum
}

// memoryGroup makes a control group with smallLimit whose processes the kernel ends
// together, or says why it cannot. It goes with the test.
func memoryGroup(t *testing.T) (*os.File, error) {
	const root = "/sys/fs/cgroup"
	controllers, err := os.ReadFile(root + "/cgroup.subtree_control")
	if err != nil {
		return nil, fmt.Errorf("control groups of version 2 are not mounted at %s: %w", root, err)
	}
	if !strings.Contains(string(controllers), "memory") {
		return nil, errors.New("control groups of version 2 do not hold the memory controller")
	}
	group, err := os.MkdirTemp(root, "fusegate-test-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	for file, value := range map[string]string{"memory.max": fmt.Sprint(smallLimit), "memory.swap.max": "0", "memory.oom.group": "1"} {
		if err := os.WriteFile(filepath.Join(group, file), []byte(value), 0); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(group)
	if err == nil {
		t.Cleanup(func() { _ = f.Close() })
	}
	return f, err
}
