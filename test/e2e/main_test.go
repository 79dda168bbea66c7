package e2e_test

import (
	"os"
	"testing"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

func TestMain(m *testing.M) { os.Exit(fusegate.Main(m)) }

// testCluster is a cluster with what the tests here do with it.
type testCluster struct{ *fusegate.Cluster }

// start returns a cluster that the tests here share, as many as run at once, and
// has the test run beside others.
func start(t *testing.T) *testCluster {
	t.Helper()
	t.Parallel()
	return &testCluster{fusegate.Start(t)}
}

// alone returns such a cluster for a test that nothing may run beside.
func alone(t *testing.T) *testCluster {
	t.Helper()
	return &testCluster{fusegate.Start(t)}
}

// bare starts a control plane without Fusegate, for one test, which runs beside
// others.
func bare(t *testing.T) *testCluster {
	t.Helper()
	t.Parallel()
	return &testCluster{fusegate.Bare(t)}
}
