//go:build unix

package controlplane

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminate asks a component to end in order.
const terminate = syscall.SIGTERM

// reservation is a loopback port that belongs to this process until release: a
// socket which is bound but does not listen keeps everyone else from getting
// it, while the components may share it, as they bind with SO_REUSEPORT too
// (--permit-port-sharing, etcd's --socket-reuse-port) under the same user.
// Hence no race for the port, neither at the start nor while an API server is
// down.
type reservation struct {
	port int
	fd   int
	once sync.Once
}

func reserve() (*reservation, error) {
	fd, err := socket()
	if err != nil {
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	r := &reservation{fd: fd}
	if r.port, err = bind(fd); err != nil {
		r.release()
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	return r, nil
}

// socket makes one that no child inherits; macOS lacks SOCK_CLOEXEC, hence the
// lock that os/exec takes around fork.
func socket() (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

func bind(fd int) (port int, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return sa.(*unix.SockaddrInet4).Port, nil
}

// release gives the port up. It may be called more than once, and on nil.
func (r *reservation) release() {
	if r != nil {
		r.once.Do(func() { _ = unix.Close(r.fd) })
	}
}

// tryLock takes an exclusive lock that the kernel drops when the process ends.
func tryLock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
