//go:build !unix

package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

const terminate = syscall.SIGKILL

var errPlatform = fmt.Errorf("a control plane needs Linux or macOS: %w", errors.ErrUnsupported)

type reservation struct{ port int }

func reserve() (*reservation, error) { return nil, errPlatform }

func (r *reservation) release() {}

func startGuarded(*exec.Cmd) (release func(), err error) { return nil, errPlatform }

func tryLock(*os.File) error { return errPlatform }
