//go:build linux

package faults_test

import (
	"fmt"
	"testing"
)

// faultCase is a row of the table in docs/faults.md.
type faultCase struct {
	number int
	title  string
	// run breaks something, checks that the outcome is the safe one, and returns
	// it with what was measured. It leaves the world as it was.
	run func(*faultWorld, *testing.T) string
}

// hanging are the cases without Fusegate, whose backend accepts connections and
// never answers. Those that restart API servers come last: kwok looks for them with
// pauses that grow, up to a minute (client-go's Reflector), which has nothing to do
// with what a webhook does.
var hanging = []faultCase{
	{number: 17, title: "CNI down on every node, backend hangs", run: noCNI},
	{number: 19, title: "somebody's Fail webhook keeps Fusegate's pods away", run: thirdParty},
	{number: 21, title: "leader stopped and late", run: lateLeader},
	{number: 16, title: "kubelets renew for a minute, backend hangs", run: kubeletsRenew},
	{number: 15, title: "controller manager and scheduler restart, backend hangs", run: leadersRestart},
	{number: 12, title: "etcd restored from a backup, no nodes", run: restored},
	{number: 11, title: "API server restarts, backend hangs", run: apiServerRestarts},
	{number: 13, title: "bootstrap ClusterRoles and FlowSchemas missing, backend hangs", run: bootstrapMissing},
	{number: 14, title: "IPAddress objects missing, backend hangs", run: addressesMissing},
}

// enforcing are those in which Fusegate runs and enforces. The last leaves nothing
// for another.
var enforcing = []faultCase{
	{number: 18, title: "whole cluster stopped and started", run: stoppedAndStarted},
	{number: 1, title: "every backend killed", run: backendKilled},
	{number: 2, title: "backend stopped (SIGSTOP)", run: backendStopped},
	{number: 3, title: "node killed under pooled connections", run: nodeKilled},
	{number: 4, title: "backend answers 500", run: answers500},
	{number: 5, title: "backend panics", run: panics},
	{number: 6, title: "malformed, foreign and oversized answers", run: malformed},
	{number: 7, title: "policy runs out of time", run: outOfTime},
	{number: 10, title: "packets to the backend dropped", run: packetsDropped},
	{number: 8, title: "certificate expired, and of another authority", run: badCertificate},
	{number: 9, title: "Service deleted", run: serviceDeleted},
	{number: 25, title: "a condition that errors at run time", run: conditionErrors},
	{number: 26, title: "namespace labelled to escape", run: namespaceLabelled},
	{number: 27, title: "system:apiserver impersonated", run: impersonated},
	{number: 23, title: "the probe itself is broken", run: probeBroken},
	{number: 24, title: "a constraint denies everything", run: everythingDenied},
	{number: 30, title: "every connection cut five times", run: connectionsCut},
	{number: 29, title: "rolling update under load", run: rollingUpdate},
	{number: 31, title: "an object of 3 MiB, and a burst of pods", run: bigAndMany},
	{number: 20, title: "somebody keeps reverting the webhook", run: reverted},
	{number: 32, title: "uninstalled while everything runs", run: uninstalled},
}

// TestFaults breaks what can break, in two worlds side by side.
func TestFaults(t *testing.T) {
	for name, cases := range map[string][]faultCase{"hanging": hanging, "enforcing": enforcing} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaultWorld(t)
			if name == "hanging" {
				f.hang(t)
			}
			for _, c := range cases {
				t.Run(fmt.Sprintf("%d %s", c.number, c.title), func(t *testing.T) { t.Logf("%s", c.run(f, t)) })
			}
		})
	}
}
