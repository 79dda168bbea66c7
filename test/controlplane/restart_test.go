//go:build unix

package controlplane_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/test/controlplane"
)

// TestRestart restarts components that elect leaders.
func TestRestart(t *testing.T) {
	c := must[*controlplane.ControlPlane](t)(controlplane.Start(t.Context(), controlplane.Options{
		Dir: t.TempDir(), ControllerManager: true, Scheduler: true, LeaderElection: true, Log: t.Output(),
	}))
	defer func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, component := range []string{"kube-controller-manager", "kube-scheduler"} {
		holder := awaitHolder(t, c, component, "")
		before := c.Processes()[component]
		if err := c.Restart(t.Context(), component); err != nil {
			t.Fatal(err)
		}
		if after := c.Processes()[component]; after == 0 || after == before {
			t.Errorf("%s is process %d, was %d", component, after, before)
		}
		awaitHolder(t, c, component, holder)
	}
	if err := c.Restart(t.Context(), "kwok"); err == nil || !strings.Contains(err.Error(), `"kwok"`) {
		t.Errorf("restarting what was not asked for: got %v, want its name", err)
	}
}

// awaitHolder returns who holds the Lease of a component, once it is another.
func awaitHolder(t *testing.T, c *controlplane.ControlPlane, component, former string) string {
	t.Helper()
	holder := ""
	eventually(t, func(ctx context.Context) error {
		lease, err := clientOf(t, c, 0, controlplane.Admin).CoordinationV1().Leases("kube-system").Get(ctx, component, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if id := lease.Spec.HolderIdentity; id != nil {
			holder = *id
		}
		if holder == "" || holder == former {
			return errors.New("nobody else holds its Lease")
		}
		return nil
	})
	return holder
}
