package fusegate

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fusegate/fusegate/test/controlplane"
)

// Probe writes an object that violates the policy every 50 ms, until the
// function that it returns is called, which fails the test if one was let
// through.
func (c *Cluster) Probe(t testing.TB) (stop func()) {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	deniedOnes, admitted, failed := 0, 0, []error(nil)
	done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "violating-"}}
			_, err := client.CoreV1().ConfigMaps("default").Create(context.WithoutCancel(ctx), cm, metav1.CreateOptions{})
			switch {
			case err == nil:
				admitted++
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "[owner] missing label owner"):
				deniedOnes++
			default:
				failed = append(failed, err)
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
		t.Logf("%d violating writes denied, %d let through, %d failed otherwise", deniedOnes, admitted, len(failed))
		if admitted > 0 || len(failed) > 0 || deniedOnes == 0 {
			t.Errorf("%d violating writes were let through and %d denied; others: %v", admitted, deniedOnes, failed)
		}
	}
}
