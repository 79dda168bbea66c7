package perimeter_test

import (
	"os"
	"testing"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

func TestMain(m *testing.M) {
	// API servers restart here, for longer than a short Lease lasts: a leader
	// would give up, and end.
	fusegate.Timings.LeaseDuration, fusegate.Timings.RenewDeadline, fusegate.Timings.RetryPeriod = 0, 0, 0
	os.Exit(fusegate.Main(m))
}

// testCluster is a cluster with what the tests here do with it.
type testCluster struct{ *fusegate.Cluster }

// start returns the cluster that the tests here share.
func start(t *testing.T) *testCluster {
	t.Helper()
	return &testCluster{fusegate.Start(t)}
}
