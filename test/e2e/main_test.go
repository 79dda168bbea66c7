package e2e_test

import (
	"os"
	"testing"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

func TestMain(m *testing.M) { os.Exit(fusegate.Main(m)) }

// testCluster is a cluster with what the tests here do with it.
type testCluster struct{ *fusegate.Cluster }

// start returns the cluster that the tests here share.
func start(t *testing.T) *testCluster {
	t.Helper()
	return &testCluster{fusegate.Start(t)}
}

// bare starts a control plane without Fusegate, for one test.
func bare(t *testing.T) *testCluster {
	t.Helper()
	return &testCluster{fusegate.Bare(t)}
}
