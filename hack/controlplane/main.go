// Command controlplane builds the real control plane that Fusegate's tests and
// demo run on: etcd, kube-apiserver, kube-controller-manager, kube-scheduler
// and kubectl, at the versions that go.mod beside it pins, and kwok, which stands
// in for kubelets, at the version that kwok/go.mod pins.
//
// Run it from the root of the repository:
//
//	go run -C hack/controlplane .
//
// The binaries go to fusegate/controlplane/<version>-<os>-<arch> below the
// user's cache directory; FUSEGATE_CONTROLPLANE_CACHE replaces
// <cache>/fusegate/controlplane. The first build compiles Kubernetes, which
// takes minutes; afterwards a stamp beside each binary says that it is up to
// date. Progress goes to standard error; the last line on standard output is
// the directory of the binaries.
//
// A binary that is found in KUBEBUILDER_ASSETS is not built, as
// test/controlplane would prefer that one anyway.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const (
	assetsEnv = "KUBEBUILDER_ASSETS"
	cacheEnv  = "FUSEGATE_CONTROLPLANE_CACHE"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	dir, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		stop()
		os.Exit(1)
	}
	fmt.Println(dir)
}

// run builds what is missing and returns the directory that holds the
// binaries: KUBEBUILDER_ASSETS if that has them all, the cache otherwise.
func run(ctx context.Context) (string, error) {
	assets := os.Getenv(assetsEnv)
	wanted := notIn(assets, targets)
	if len(wanted) == 0 {
		return assets, nil
	}
	b, err := newBuilder()
	if err != nil {
		return "", err
	}
	if len(b.stale(wanted)) == 0 {
		return b.dir, nil
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return "", fmt.Errorf("creating the cache: %w", err)
	}
	unlock, err := lock(filepath.Join(b.dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()

	// Another run may have built everything while this one waited.
	for _, t := range b.stale(wanted) {
		if err := b.build(ctx, t); err != nil {
			return "", errors.Join(err, context.Cause(ctx))
		}
	}
	return b.dir, nil
}

// notIn returns the targets that the folder does not hold. An empty folder
// name holds none.
func notIn(folder string, all []target) []target {
	if folder == "" {
		return all
	}
	var missing []target
	for _, t := range all {
		if !executable(filepath.Join(folder, t.name)) {
			missing = append(missing, t)
		}
	}
	return missing
}

// executable reports whether the path is a regular file that may be run.
func executable(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// lock takes an exclusive lock on a file and waits for whoever holds it. The
// kernel drops the lock when the process ends, however it ends.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	fd := int(f.Fd())
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		fmt.Fprintln(os.Stderr, "controlplane: waiting for another build to finish")
		if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
		}
	}
	return func() { _ = f.Close() }, nil
}
