package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/hack/rig"
	"github.com/fusegate/fusegate/templates"
	"github.com/fusegate/fusegate/test/controlplane"
)

// writers are how many objects are written at a time.
const writers = 8

// cluster is an API server that knows Fusegate's kinds.
type cluster struct {
	plane *controlplane.ControlPlane
	admin client.Client
	certs string
}

func newCluster(ctx context.Context, plane *controlplane.ControlPlane) (*cluster, error) {
	cfg := rest.CopyConfig(plane.Config(controlplane.Admin))
	cfg.QPS, cfg.WarningHandler = -1, rest.NoWarnings{}
	admin, err := client.New(cfg, client.Options{})
	if err != nil {
		return nil, err
	}
	c := &cluster{plane: plane, admin: admin}
	c.certs = filepath.Join(plane.Dir(), "certs")
	if err := rig.Certify(c.certs); err != nil {
		return nil, err
	}
	space := &unstructured.Unstructured{}
	space.SetAPIVersion("v1")
	space.SetKind("Namespace")
	space.SetName(benchSpace)
	if err := rig.Apply(ctx, admin, space); err != nil {
		return nil, fmt.Errorf("creating the namespace: %w", err)
	}
	return c, rig.ApplyKinds(ctx, admin)
}

// populate writes the templates, and their constraints once a process has
// published what these are, and waits until all of them are reported in force.
func (c *cluster) populate(ctx context.Context, _ *served) error {
	ts, cs, err := manyObjects()
	if err != nil {
		return err
	}
	if err := c.applyAll(ctx, ts); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "templates written")
	if err := c.applyAll(ctx, cs); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "constraints written")
	return c.reported(ctx, cs)
}

// found has nothing to do: a ready process has met what was there.
func (*cluster) found(context.Context, *served) error { return nil }

func (c *cluster) applyAll(ctx context.Context, all []*unstructured.Unstructured) error {
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := w; i < len(all) && errs[w] == nil; i += writers {
				errs[w] = rig.Apply(ctx, c.admin, all[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// reported waits until a process has said of each constraint that it holds it.
func (c *cluster) reported(ctx context.Context, all []*unstructured.Unstructured) error {
	for _, u := range all {
		err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, rig.Patience, true, func(ctx context.Context) (bool, error) {
			now := u.DeepCopy()
			if err := c.admin.Get(ctx, client.ObjectKeyFromObject(u), now); err != nil {
				return false, err
			}
			pods, _, err := unstructured.NestedSlice(now.Object, "status", "byPod")
			return len(pods) > 0, err
		})
		if err != nil {
			return fmt.Errorf("waiting for %s %s to be ingested: %w", u.GetKind(), u.GetName(), err)
		}
	}
	return nil
}

// manyObjects is the library several times over, under other names, as written
// to an API server.
func manyObjects() (ts, cs []*unstructured.Unstructured, err error) {
	names, err := fs.Glob(templates.FS, "*/template.yaml")
	if err != nil {
		return nil, nil, err
	}
	for i := range manyTemplates {
		name := names[i%len(names)]
		t, err := readObject(name)
		if err != nil {
			return nil, nil, err
		}
		c, err := readObject(strings.TrimSuffix(name, "template.yaml") + "samples/constraint.yaml")
		if err != nil {
			return nil, nil, err
		}
		kind := fmt.Sprintf("%sX%d", c.GetKind(), i)
		t.SetName(strings.ToLower(kind))
		if err := unstructured.SetNestedField(t.Object, kind, "spec", "crd", "spec", "names", "kind"); err != nil {
			return nil, nil, err
		}
		ts, cs = append(ts, t), append(cs, renamed(c, kind)...)
	}
	return ts, cs, nil
}
