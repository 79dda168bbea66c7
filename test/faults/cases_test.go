//go:build linux

package faults_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The labels of fault cases.
const (
	// isReal breaks what the case names, on a real control plane; kubelets are
	// played by kwok.
	isReal = "real"
	// isSimulated has the test play what breaks.
	isSimulated = "simulated"
	// notHere cannot be shown here.
	notHere = "not runnable here"
)

// faultCase is a row of the table of faults.
type faultCase struct {
	number       int
	title, label string
	// run breaks something, checks that the outcome is the safe one, and
	// returns it with what was measured. Where it is nil, why says why.
	run func(*faultWorld, *testing.T) string
	why string
}

// noFuse is why the cases of the fuse cannot be shown.
const noFuse = "nothing opens the fuse by itself yet, and a person's hand does not do this"

// faultCases are in the order in which they are run: each leaves the world as
// the next one wants it.
var faultCases = []faultCase{
	// The backend hangs, and there is no Fusegate, up to case 16.
	{number: 12, title: "etcd restored from a backup, no nodes", label: isReal, run: restored},
	{number: 11, title: "API server restarts, backend hangs", label: isReal, run: apiServerRestarts},
	{number: 13, title: "bootstrap ClusterRoles and FlowSchemas missing, backend hangs", label: isReal, run: bootstrapMissing},
	{number: 14, title: "IPAddress objects missing, backend hangs", label: isReal, run: addressesMissing},
	{number: 15, title: "controller manager and scheduler restart, backend hangs", label: isReal, run: leadersRestart},
	{number: 17, title: "CNI down on every node, backend hangs", label: isReal, run: noCNI},
	{number: 19, title: "somebody's Fail webhook keeps Fusegate's pods away", label: isReal, run: thirdParty},
	{number: 21, title: "leader stopped and late", label: isReal, run: lateLeader},
	{number: 16, title: "kubelets renew for a minute, backend hangs", label: isReal, run: kubeletsRenew},
	{number: 18, title: "whole cluster stopped and started", label: isReal, run: stoppedAndStarted},
	// Fusegate runs and enforces before and after each of these.
	{number: 1, title: "every backend killed", label: isReal, run: backendKilled},
	{number: 2, title: "backend stopped (SIGSTOP)", label: isReal, run: backendStopped},
	{number: 3, title: "node killed under pooled connections", label: isSimulated, run: nodeKilled},
	{number: 4, title: "backend answers 500", label: isSimulated, run: answers500},
	{number: 5, title: "backend panics", label: isSimulated, run: panics},
	{number: 6, title: "malformed, foreign and oversized answers", label: isSimulated, run: malformed},
	{number: 7, title: "policy runs out of time", label: isReal, run: outOfTime},
	{number: 10, title: "packets to the backend dropped", label: isSimulated, run: packetsDropped},
	{number: 8, title: "certificate expired, and of another authority", label: isReal, run: badCertificate},
	{number: 9, title: "Service deleted", label: isReal, run: serviceDeleted},
	{number: 25, title: "a condition that errors at run time", label: isReal, run: conditionErrors},
	{number: 26, title: "namespace labelled to escape", label: isReal, run: namespaceLabelled},
	{number: 27, title: "system:apiserver impersonated", label: isReal, run: impersonated},
	{number: 23, title: "the probe itself is broken", label: isReal, run: probeBroken},
	{number: 24, title: "a constraint denies everything", label: isReal, run: everythingDenied},
	{number: 30, title: "every connection cut five times", label: isSimulated, run: connectionsCut},
	{number: 29, title: "rolling update under load", label: isReal, run: rollingUpdate},
	{number: 31, title: "an object of 3 MiB, and a burst of pods", label: isReal, run: bigAndMany},
	{number: 20, title: "somebody keeps reverting the webhook", label: isReal, run: reverted},
	{number: 32, title: "uninstalled while everything runs", label: isReal, run: uninstalled},
	{number: 22, title: "the probe flaps", label: notHere, why: noFuse},
	{number: 28, title: "objects made while open are reviewed again", label: notHere, why: "there is no audit yet"},
}

// TestFaultCases breaks what can break and prints what came of it.
func TestFaultCases(t *testing.T) {
	f := newFaultWorld(t)
	lines := map[int]string{}
	for _, c := range faultCases {
		outcome := cmp.Or(c.why, "it did not come to its end")
		if c.run != nil {
			ok := t.Run(fmt.Sprintf("case %d", c.number), func(t *testing.T) { outcome = c.run(f, t) })
			if !ok {
				outcome = "NOT SAFE: " + outcome
			}
		}
		lines[c.number] = fmt.Sprintf("case %d (%s): %s: %s", c.number, c.label, c.title, outcome)
	}
	slices.SortFunc(faultCases, func(a, b faultCase) int { return cmp.Compare(a.number, b.number) })
	var out strings.Builder
	for _, c := range faultCases {
		fmt.Fprintln(&out, lines[c.number])
	}
	t.Logf("\n%s", &out)
}

// TestFaultTable checks that the table is whole.
func TestFaultTable(t *testing.T) {
	seen := map[int]bool{}
	for _, c := range faultCases {
		if seen[c.number] {
			t.Errorf("case %d is there twice", c.number)
		}
		seen[c.number] = true
		if runs := c.run != nil; runs == (c.label == notHere) || runs == (c.why != "") {
			t.Errorf("case %d is %s: want a function, or no function and why", c.number, c.label)
		}
	}
	for n := range 32 {
		if !seen[n+1] {
			t.Errorf("case %d is missing", n+1)
		}
	}
}
