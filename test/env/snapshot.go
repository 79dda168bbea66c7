package env

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fusegate/fusegate/test/controlplane"
)

// start starts a control plane from a snapshot of one that has just been started:
// what an API server and a controller manager write when they find an empty etcd
// takes them seconds. The first test to want it makes the snapshot, and keeps it
// beside the binaries; it is for their build alone.
func start(ctx context.Context, o controlplane.Options) (*controlplane.ControlPlane, error) {
	if o.Snapshot == "" {
		folder, err := snapshot(ctx, o.ControllerManager)
		if err != nil {
			return nil, fmt.Errorf("making a snapshot to start from: %w", err)
		}
		o.Snapshot = folder
	}
	return controlplane.Start(ctx, o)
}

// snapshot returns the folder with what etcd holds once API servers, and the
// controller manager if there is one, have started.
func snapshot(ctx context.Context, managed bool) (string, error) {
	folder, id, err := controlplane.Made()
	if err != nil {
		return "", err
	}
	prefix := "snapshot-apiserver-"
	if managed {
		prefix = "snapshot-controller-manager-"
	}
	at := filepath.Join(folder, prefix+id)
	if _, err := os.Stat(at); err == nil {
		return at, nil
	}
	tmp, err := os.MkdirTemp(folder, "."+prefix)
	if errors.Is(err, os.ErrPermission) {
		return "", nil // those are not our binaries to keep something beside
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := take(ctx, managed, filepath.Join(tmp, "etcd")); err != nil {
		return "", err
	}
	// Others may make one at the same time: they are the same, the first stays.
	if err := os.Rename(filepath.Join(tmp, "etcd"), at); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return at, forget(folder, prefix, prefix+id)
}

// take starts a control plane and writes its snapshot.
func take(ctx context.Context, managed bool, to string) (err error) {
	cp, err := controlplane.Start(ctx, controlplane.Options{ControllerManager: managed})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Stop()) }()
	if err := bootstrapped(ctx, cp, managed); err != nil {
		return err
	}
	return cp.Snapshot(ctx, to)
}

// forget removes the snapshots of builds that there were before.
func forget(folder, prefix, but string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && e.Name() != but {
			err = errors.Join(err, os.RemoveAll(filepath.Join(folder, e.Name())))
		}
	}
	return err
}
