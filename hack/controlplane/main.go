// Command controlplane builds the real control plane that Fusegate's tests and
// demo run on: etcd, kube-apiserver, kube-controller-manager, kube-scheduler
// and kubectl, at the versions that go.mod beside it pins, and kwok, which stands
// in for kubelets, at the version that kwok/go.mod pins.
//
// Run it from the root of the repository:
//
//	go run -C hack/controlplane . [name...]
//
// Without names it builds all. The binaries go to
// fusegate/controlplane/<version>-<os>-<arch> below the user's cache directory;
// FUSEGATE_CONTROLPLANE_CACHE replaces <cache>/fusegate/controlplane. The first
// build compiles Kubernetes, which takes minutes; afterwards a stamp beside each
// binary says that it is up to date. Progress goes to standard error; the last
// line on standard output is the directory of the binaries.
//
// CONTROLPLANE_VERSION, such as v1.35.2, builds the binaries of Kubernetes at
// that version instead, in a folder of their own, from a module that is made
// for it: see version.go. etcd and kwok stay those that are pinned here.
//
// A binary that is found in KUBEBUILDER_ASSETS is not built, as
// test/controlplane would prefer that one anyway; both look there only for the
// pinned version.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	assetsEnv  = "KUBEBUILDER_ASSETS"
	cacheEnv   = "FUSEGATE_CONTROLPLANE_CACHE"
	versionEnv = "CONTROLPLANE_VERSION"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	dir, err := run(ctx, os.Getenv(versionEnv), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		stop()
		os.Exit(1)
	}
	fmt.Println(dir)
}

// run builds what is missing of the named binaries, all if none is named, and
// returns the directory that holds them: KUBEBUILDER_ASSETS if that has them
// all, the cache otherwise. An empty version is the pinned one.
func run(ctx context.Context, version string, names []string) (string, error) {
	wanted, err := named(names)
	if err != nil {
		return "", err
	}
	pinned, err := pinnedBuilder()
	if err != nil {
		return "", err
	}
	if version != "" && version != pinned.version {
		return runVersion(ctx, pinned, version, wanted)
	}
	assets := os.Getenv(assetsEnv)
	if wanted = notIn(assets, wanted); len(wanted) == 0 {
		return assets, nil
	}
	return pinned.dir, pinned.buildAll(ctx, wanted)
}

// runVersion builds those of another version, and what is pinned beside them.
func runVersion(ctx context.Context, pinned *builder, version string, wanted []target) (string, error) {
	other, err := versionBuilder(ctx, pinned, version)
	if err != nil {
		return "", err
	}
	versioned := func(t target) bool { return strings.HasPrefix(t.pkg, "k8s.io/kubernetes/") }
	if err := pinned.buildAll(ctx, slices.DeleteFunc(slices.Clone(wanted), versioned)); err != nil {
		return "", err
	}
	unversioned := func(t target) bool { return !versioned(t) }
	return other.dir, other.buildAll(ctx, slices.DeleteFunc(slices.Clone(wanted), unversioned))
}

// named returns the targets of these names, in the order of building.
func named(names []string) ([]target, error) {
	if len(names) == 0 {
		return targets, nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(targets, func(t target) bool { return t.name == name }) {
			return nil, fmt.Errorf("there is no binary %q to build", name)
		}
	}
	return slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return !slices.Contains(names, t.name) }), nil
}

// buildAll builds those that are not up to date, one run at a time.
func (b *builder) buildAll(ctx context.Context, wanted []target) error {
	if len(b.stale(wanted)) == 0 {
		return nil
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return fmt.Errorf("creating the cache: %w", err)
	}
	unlock, err := lock(filepath.Join(b.dir, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()

	// Another run may have built everything while this one waited.
	stale := b.stale(wanted)
	left, err := b.count(ctx, stale)
	if err != nil {
		return err
	}
	for _, t := range stale {
		if err := b.build(ctx, t, left); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	return nil
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
