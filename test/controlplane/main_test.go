package controlplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/fusegate/fusegate/test/controlplane"
)

// orphanEnv turns the test binary into a program that starts a control plane in
// the folder it names, says so and waits to be killed.
const orphanEnv = "FUSEGATE_TEST_ORPHAN"

// patience bounds every wait for a condition.
const patience = time.Minute

// init keeps the main goroutine on the main thread, which never ends, so that
// any other goroutine that locks its thread and returns ends a thread.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if dir := os.Getenv(orphanEnv); dir != "" {
		os.Exit(beOrphan(dir))
	}
	os.Exit(m.Run())
}

func beOrphan(dir string) int {
	c, err := controlplane.Start(context.Background(), controlplane.Options{Dir: dir, Log: os.Stderr})
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(c.Processes())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {}
}

// eventually repeats the condition until it holds or the test's patience ends.
func eventually(t *testing.T, condition func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s in vain: %v", patience, err)
		case <-tick.C:
		}
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func clientOf(t *testing.T, c *controlplane.ControlPlane, apiServer int, user string) kubernetes.Interface {
	t.Helper()
	return must[kubernetes.Interface](t)(kubernetes.NewForConfig(c.ConfigOf(apiServer, user)))
}
