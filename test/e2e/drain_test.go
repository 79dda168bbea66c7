package e2e_test

import (
	"syscall"
	"testing"

	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// TestDrain stops one of two webhooks by turns while violating objects are
// written, and wants every one denied: a call that fails lets its object in.
func TestDrain(t *testing.T) {
	c := bare(t)
	s := fusegate.NewTurnout(t)
	c.Port = s.Port()
	if out, err := fusegate.Command(c.Outside()...).CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
	c.Role(t, "controller")
	next := func() (m *fusegate.Manager, port int) {
		port = env.FreePort(t)
		m = c.Begin(t, "webhook", port)
		m.AwaitReady(t)
		return m, port
	}
	answering, port := next()
	s.Lead(port)
	c.Apply(t, fusegate.LabelTemplate("DrainLabels", "missing"))
	c.AwaitTemplate(t, "drainlabels")
	c.Apply(t, fusegate.Constraint("DrainLabels", "owner", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}]}`))
	c.AwaitCreate(t, fusegate.ConfigMap("default", "bare"), fusegate.Denied+"[owner] missing label owner")

	var stops []func()
	for range 4 {
		stops = append(stops, c.Probe(t))
	}
	for range 3 {
		relief, port := next()
		s.Lead(port)
		if err := answering.End(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		answering = relief
	}
	for _, stop := range stops {
		stop()
	}
	c.Delete(t, "constrainttemplate/drainlabels")
	if err := answering.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	t.Logf("%d connections", s.Accepted())
}
