package perimeter_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

const (
	// corpusBudget is what a request of the control plane may take while the webhook
	// hangs. The shortest time-out of a client in the corpus is 5 s, of those
	// that wait for a leader's Lease; one second is what C03 would have if
	// coordinated leader election were on.
	corpusBudget = time.Second
	// webhookTimeout is that of Fusegate's webhook.
	webhookTimeout = 3 * time.Second
	// slack is what a request may take beside the webhook's time-out.
	slack = 2 * time.Second
)

// TestCorpus arms a constraint that denies everything on every kind, and makes
// the requests of the critical-request corpus and of the request table at a
// real API server: as they should be answered, and then again while Fusegate
// hangs.
func TestCorpus(t *testing.T) {
	c, by, controller := corpusCluster(t)
	exempt, judged := slices.Concat(corpusExempt, tableExempt), slices.Concat(addOns, tableJudged)
	wide := c.widest(t)
	t.Run("complete", func(t *testing.T) {
		for n := 1; n <= 24; n++ {
			row := fmt.Sprintf("C%02d", n)
			if !slices.ContainsFunc(exempt, func(k call) bool { return k.row == row }) {
				t.Errorf("there is no request of row %s", row)
			}
		}
	})
	t.Run("answering", func(t *testing.T) {
		for _, k := range exempt {
			c.check(t, by, wide, k, 0)
		}
		for _, k := range slices.Concat(judged, tableConnect) {
			c.check(t, by, wide, k, 1)
		}
		t.Logf("%d requests are outside policy, %d are judged", len(exempt), len(judged)+len(tableConnect))
	})
	t.Run("hanging", func(t *testing.T) {
		for _, m := range []*fusegate.Manager{controller, c.Manager} {
			hang(t, m)
		}
		checkSwift(t, by, exempt)
		checkTimedOut(t, by, judged)
	})
	c.AwaitCreate(t, fusegate.Object("v1", "ConfigMap", "tenant-a", "mine", ""), fusegate.Denied+"[everything] no CREATE of ConfigMap")
}

// hang stops the process for the rest of the test, such that its connections
// are accepted and nothing is answered.
func hang(t *testing.T, m *fusegate.Manager) {
	t.Helper()
	if err := m.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	})
}

// check makes one call. One that is to arrive must be denied; one that is not
// must succeed without Fusegate, or the widest webhook, having seen anything.
func (c *testCluster) check(t *testing.T, by caller, wide *recorder, k call, arrivals int) {
	t.Helper()
	before, widely := c.Manager.Reviews(t), wide.arrivals()
	o, err := by.request(t, k, 0)
	if err != nil {
		t.Errorf("%s: %s by %s: %v", k.row, k.what, k.user, err)
		return
	}
	seen, seenWidely := c.Manager.Reviews(t)-before, wide.arrivals()-widely
	if seen != arrivals || seenWidely != arrivals {
		t.Errorf("%s: %s by %s: %d requests reached Fusegate and %d the widest webhook, want %d", k.row, k.what, k.user, seen, seenWidely, arrivals)
	}
	if arrivals == 0 && !o.passed() || arrivals == 1 && !o.denied() {
		t.Errorf("%s: %s by %s: got %s; want it denied: %v", k.row, k.what, k.user, o, arrivals == 1)
	}
}

// checkSwift makes the calls one after the other, each of which must succeed
// within the budget.
func checkSwift(t *testing.T, by caller, calls []call) {
	t.Helper()
	var slowest time.Duration
	what := ""
	for _, k := range calls {
		o, err := by.request(t, k, 1)
		if err != nil || !o.passed() || o.took > corpusBudget {
			t.Errorf("%s: %s by %s: %v, %v; want success within %v", k.row, k.what, k.user, o, err, corpusBudget)
		}
		if o.took > slowest {
			slowest, what = o.took, fmt.Sprintf("%s: %s by %s", k.row, k.what, k.user)
		}
	}
	t.Logf("the slowest of %d requests outside policy took %.3f s of %v: %s", len(calls), slowest.Seconds(), corpusBudget, what)
}

// checkTimedOut makes the calls at once, each of which must succeed after the
// webhook's time-out. To delete a Pod takes two: an API server has it admitted
// before it marks the Pod as deleted and again before it removes it
// (k8s.io/apiserver pkg/registry/generic/registry/store.go, Delete), and once
// more each time that the Pod has changed meanwhile.
func checkTimedOut(t *testing.T, by caller, calls []call) {
	t.Helper()
	outcomes, errs := make([]callOutcome, len(calls)), make([]error, len(calls))
	var all sync.WaitGroup
	for i, k := range calls {
		all.Go(func() { outcomes[i], errs[i] = by.request(t, k, 1) })
	}
	all.Wait()
	var most time.Duration
	for i, k := range calls {
		least, took := webhookTimeout, outcomes[i].took
		limit := least + slack
		if strings.HasPrefix(k.what, "DELETE v1 tenant-a pods/") {
			least *= 2
			limit += 3 * webhookTimeout
			t.Logf("%s took %.3f s", k.what, took.Seconds())
		} else {
			most = max(most, took)
		}
		if errs[i] != nil || !outcomes[i].passed() || took < least || took > limit {
			t.Errorf("%s: %s by %s: %v, %v; want success after %v", k.row, k.what, k.user, outcomes[i], errs[i], least)
		}
	}
	t.Logf("%d requests that are judged were let through, each of the others after at most %.3f s", len(calls), most.Seconds())
}
