//go:build !linux

package compiler

import (
	"os/exec"
	"time"
)

var started = time.Now()

// confine does nothing: who runs Fusegate's commands on a machine of their own has
// the garbage collector's limit, and that of watching.
func confine(int64) error { return nil }

// detach does nothing: see there.
func detach(*exec.Cmd) {}

// processorTime is the time that has passed.
func processorTime() time.Duration { return time.Since(started) }
