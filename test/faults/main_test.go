package faults_test

import (
	"os"
	"testing"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

func TestMain(m *testing.M) { os.Exit(fusegate.Main(m)) }

// testCluster is a cluster with what the tests here do with it.
type testCluster struct{ *fusegate.Cluster }
