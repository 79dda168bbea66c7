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

// testRestart restarts components that elect leaders.
func testRestart(t *testing.T, c *controlplane.ControlPlane) {
	t.Helper()
	components := []string{"kube-controller-manager", "kube-scheduler"}
	former := map[string]string{}
	for _, component := range components {
		former[component] = awaitHolder(t, c, component, "")
		before := c.Processes()[component]
		if err := c.Restart(t.Context(), component); err != nil {
			t.Fatal(err)
		}
		if after := c.Processes()[component]; after == 0 || after == before {
			t.Errorf("%s is process %d, was %d", component, after, before)
		}
	}
	for _, component := range components {
		awaitHolder(t, c, component, former[component])
	}
}

// TestRestartUnasked checks that what Options did not ask for is refused.
func TestRestartUnasked(t *testing.T) {
	if err := (&controlplane.ControlPlane{}).Restart(t.Context(), "kwok"); err == nil || !strings.Contains(err.Error(), `"kwok"`) {
		t.Errorf("got %v, want its name", err)
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
