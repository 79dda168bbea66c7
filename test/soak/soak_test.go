//go:build soak

package soak_test

import (
	"flag"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

var duration = flag.Duration("duration", 10*time.Minute, "how long to go on")

func TestMain(m *testing.M) { os.Exit(fusegate.Main(m)) }

// TestSoak replaces webhooks and controllers by turns, in good order and by
// SIGKILL, while violating objects are written: none may be let in but while a
// webhook was killed, and the processes do not grow.
func TestSoak(t *testing.T) {
	c := fusegate.Bare(t)
	s := fusegate.NewTurnout(t)
	c.Port = s.Port()
	if out, err := fusegate.Command(c.Outside()...).CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
	webhook := func() *fusegate.Manager {
		port := env.FreePort(t)
		m := c.Begin(t, "webhook", port)
		m.AwaitReady(t)
		s.Lead(port)
		return m
	}
	answering, leader := webhook(), c.Begin(t, "controller", c.Port)
	c.Must(t, fusegate.LabelTemplate("SoakLabels", "missing"), "apply", "-f", "-")
	c.AwaitTemplate(t, "soaklabels")
	c.Must(t, fusegate.Constraint("SoakLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`), "apply", "-f", "-")
	c.AwaitEnforced(t, "soaklabels/owner")
	constant := c.Begin(t, "webhook", env.FreePort(t)) // lives from the beginning to the end
	constant.AwaitReady(t)

	var first int
	for began, rounds := time.Now(), 0; time.Since(began) < *duration; rounds++ {
		stop := c.Probe(t)
		relief := webhook()
		if err := answering.End(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		answering = relief
		next := c.Begin(t, "controller", c.Port)
		next.AwaitReady(t)
		if err := leader.End([]os.Signal{syscall.SIGTERM, syscall.SIGKILL}[rounds%2]); err != nil {
			t.Error(err)
		}
		leader = next
		c.AwaitEnforced(t, "soaklabels/owner")
		stop()
		if size := resident(t, constant); rounds == 5 {
			first = size
		} else if rounds > 5 && size > 2*first {
			t.Fatalf("after %d rounds a webhook takes %d MiB, and took %d MiB", rounds, size>>20, first>>20)
		}
	}
	for _, m := range []*fusegate.Manager{answering, leader, constant} {
		if err := m.End(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
}

// resident is the memory of a process in bytes.
func resident(t *testing.T, m *fusegate.Manager) int {
	t.Helper()
	proc, err := procfs.NewProc(m.Cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := proc.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return stat.ResidentMemory()
}
