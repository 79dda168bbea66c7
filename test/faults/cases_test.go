//go:build linux

package faults_test

import (
	"fmt"
	"testing"
)

// state is what a case finds: the world is brought into it first, whatever the
// case before has left, so that each can be run alone.
type state int

const (
	// enforces: Fusegate runs and enforces.
	enforces state = iota
	// hangs: there is no Fusegate, and the backend accepts connections and never
	// answers.
	hangs
)

// faultCase is a row of the table in docs/faults.md.
type faultCase struct {
	number int
	title  string
	from   state
	// run breaks something, checks that the outcome is the safe one, and returns
	// it with what was measured.
	run func(*faultWorld, *testing.T) string
}

// faultCases are in an order in which the state changes seldom.
var faultCases = []faultCase{
	{number: 12, title: "etcd restored from a backup, no nodes", from: hangs, run: restored},
	{number: 11, title: "API server restarts, backend hangs", from: hangs, run: apiServerRestarts},
	{number: 13, title: "bootstrap ClusterRoles and FlowSchemas missing, backend hangs", from: hangs, run: bootstrapMissing},
	{number: 14, title: "IPAddress objects missing, backend hangs", from: hangs, run: addressesMissing},
	{number: 15, title: "controller manager and scheduler restart, backend hangs", from: hangs, run: leadersRestart},
	{number: 17, title: "CNI down on every node, backend hangs", from: hangs, run: noCNI},
	{number: 19, title: "somebody's Fail webhook keeps Fusegate's pods away", from: hangs, run: thirdParty},
	{number: 21, title: "leader stopped and late", from: hangs, run: lateLeader},
	{number: 16, title: "kubelets renew for a minute, backend hangs", from: hangs, run: kubeletsRenew},
	{number: 18, title: "whole cluster stopped and started", from: enforces, run: stoppedAndStarted},
	{number: 1, title: "every backend killed", from: enforces, run: backendKilled},
	{number: 2, title: "backend stopped (SIGSTOP)", from: enforces, run: backendStopped},
	{number: 3, title: "node killed under pooled connections", from: enforces, run: nodeKilled},
	{number: 4, title: "backend answers 500", from: enforces, run: answers500},
	{number: 5, title: "backend panics", from: enforces, run: panics},
	{number: 6, title: "malformed, foreign and oversized answers", from: enforces, run: malformed},
	{number: 7, title: "policy runs out of time", from: enforces, run: outOfTime},
	{number: 10, title: "packets to the backend dropped", from: enforces, run: packetsDropped},
	{number: 8, title: "certificate expired, and of another authority", from: enforces, run: badCertificate},
	{number: 9, title: "Service deleted", from: enforces, run: serviceDeleted},
	{number: 25, title: "a condition that errors at run time", from: enforces, run: conditionErrors},
	{number: 26, title: "namespace labelled to escape", from: enforces, run: namespaceLabelled},
	{number: 27, title: "system:apiserver impersonated", from: enforces, run: impersonated},
	{number: 23, title: "the probe itself is broken", from: enforces, run: probeBroken},
	{number: 24, title: "a constraint denies everything", from: enforces, run: everythingDenied},
	{number: 30, title: "every connection cut five times", from: enforces, run: connectionsCut},
	{number: 29, title: "rolling update under load", from: enforces, run: rollingUpdate},
	{number: 31, title: "an object of 3 MiB, and a burst of pods", from: enforces, run: bigAndMany},
	{number: 20, title: "somebody keeps reverting the webhook", from: enforces, run: reverted},
}

// TestFaults breaks what can break.
func TestFaults(t *testing.T) {
	f := newFaultWorld(t)
	for _, c := range faultCases {
		t.Run(fmt.Sprintf("%d %s", c.number, c.title), func(t *testing.T) {
			f.become(t, c.from)
			t.Logf("%s", c.run(f, t))
		})
	}
}

// TestUninstalledUnderLoad is case 32, which leaves nothing for another.
func TestUninstalledUnderLoad(t *testing.T) {
	t.Logf("%s", uninstalled(newFaultWorld(t), t))
}

// become brings the world into a state.
func (f *faultWorld) become(t *testing.T, s state) {
	t.Helper()
	if f.state == s {
		return
	}
	f.state = s
	f.unwatch()
	if s == hangs {
		f.end(f.webhook, f.controller)
		if err := f.svc.hang(); err != nil {
			t.Fatal(err)
		}
		return
	}
	f.startController(t)
	f.startWebhook(t)
	f.controller.AwaitReady(t)
	f.enforced(t)
}
