package perimeter_test

import (
	"os"
	"testing"

	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

func TestMain(m *testing.M) {
	// API servers restart here, and may be gone for longer than a Lease of production
	// lasts: a leader would give up, and end. Nobody waits for another leader here.
	fusegate.Timings.LeaseDuration, fusegate.Timings.RenewDeadline = env.Patience, env.Patience*2/3
	os.Exit(fusegate.Main(m))
}

// testCluster is a cluster with what the tests here do with it.
type testCluster struct{ *fusegate.Cluster }

// start returns a cluster that the tests here share.
func start(t *testing.T) *testCluster {
	t.Helper()
	return &testCluster{fusegate.Start(t)}
}
