package install_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// image is any: what is rendered does not depend on it.
const image = "registry.example.com/fusegate:test"

// killed runs a command until it has printed so many lines, and kills it then.
// It returns false if the command ended before.
func killed(t *testing.T, lines int, args ...string) bool {
	t.Helper()
	cmd := fusegate.Command(args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for range lines {
		if _, err = r.ReadString('\n'); err != nil {
			break
		}
	}
	if err == nil {
		err = cmd.Process.Kill()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	end := cmd.Wait()
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		return true
	}
	if end != nil {
		t.Errorf("%v: %v", args, end)
	}
	return false
}

// unarmed fails if an entry carries rules.
func (c *testCluster) unarmed(t *testing.T, when string) {
	t.Helper()
	for _, entry := range c.rules(t) {
		if !strings.HasSuffix(entry, "=") {
			t.Errorf("%s: entry %s carries rules, and nothing answers", when, entry)
		}
	}
}

// unchanged runs a command and fails unless it finds nothing to do.
func unchanged(t *testing.T, args ...string) {
	t.Helper()
	changes := changesOf(t, append(args, "-o", "json")...)
	for _, change := range changes {
		if change.Action != install.Unchanged && change.Action != install.Kept {
			t.Errorf("%s %s: got %s, want it unchanged", change.Kind, change.Name, change.Action)
		}
	}
}

// TestKilledInstall kills the installation after each object in turn. Each run
// goes on from what the one before has left.
func TestKilledInstall(t *testing.T) {
	t.Parallel()
	c := bare(t)
	inCluster := []string{"install", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin)}
	plan, err := install.Render(config.Config{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	kills := 0
	for stage := 1; stage <= len(plan.Objects); stage++ {
		if killed(t, stage, inCluster...) {
			kills++
		}
		c.unarmed(t, fmt.Sprintf("after %d objects", stage))
		if len(c.rules(t)) > 0 && stage < len(plan.Objects)-1 {
			for _, name := range []string{"fusegate-webhook", "fusegate-controller"} {
				if err := c.Client(t).Get(t.Context(), client.ObjectKey{Namespace: fusegate.Namespace, Name: name}, &appsv1.Deployment{}); err != nil {
					t.Error(err)
				}
			}
		}
	}
	t.Logf("killed %d times in %d stages", kills, len(plan.Objects))
	if kills < len(plan.Objects)-2 {
		t.Errorf("only %d of %d runs were killed", kills, len(plan.Objects))
	}
	if out, err := fusegate.Command(inCluster...).CombinedOutput(); err != nil {
		t.Fatalf("after all the kills: %v: %s", err, out)
	}
	unchanged(t, inCluster...)
}

// TestKilledChange kills changes of an installation that a controller guards,
// while no webhook answers, and wants it armed only once one does.
func TestKilledChange(t *testing.T) {
	t.Parallel()
	c := bare(t)
	if out, err := fusegate.Command(c.Outside()...).CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
	controller := c.Role(t, "controller")
	env.Await(t, "the controller to wait for a webhook", func() error {
		if !strings.Contains(controller.Log.String(), "webhook rules wait") {
			return fmt.Errorf("log: %s", controller.Log)
		}
		return nil
	})
	for stage, done := 1, false; !done; stage++ {
		seconds := fmt.Sprint(1 + stage%2)
		done = !killed(t, stage, c.Outside("--timeout-seconds", seconds)...)
		c.unarmed(t, fmt.Sprintf("after %d objects of a change", stage))
	}
	refused := fusegate.Command(c.Outside("--wait", "--timeout=3s")...)
	out, err := refused.CombinedOutput()
	if err == nil || refused.ProcessState.ExitCode() != 1 {
		t.Errorf("waiting without a webhook: got %v, want exit code %d", err, 1)
	}
	for _, want := range []string{"Waiting: webhook at https://127.0.0.1", "connection refused", "waiting for 3s was not enough; missing: ", "the controller arms it once the webhook answers"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("waiting without a webhook: got %q, want %q in it", out, want)
		}
	}
	c.Role(t, "webhook")
	out, err = fusegate.Command(c.Outside("--wait", "--timeout", env.Patience.String())...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Installed. The webhook answers and is armed") {
		t.Fatalf("waiting for the webhook: %v: %s\n%s", err, out, controller.Log)
	}
	for _, entry := range c.rules(t) {
		if strings.HasSuffix(entry, "=") {
			t.Errorf("entry %s carries no rules, though the command says that it is armed", entry)
		}
	}
	unchanged(t, c.Outside()...)
	t.Run("dry runs", c.dryRuns)
	c.uninstalled(t)
	// It cannot lead any more: its Lease went with the namespace.
	if err := controller.End(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// uninstalled removes Fusegate while its controller runs, and checks that
// nobody puts the webhook configuration back.
func (c *testCluster) uninstalled(t *testing.T) {
	t.Helper()
	out, err := fusegate.Command("uninstall", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin), "--delete-policies").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "ValidatingWebhookConfiguration fusegate deleted\n") {
		t.Fatalf("uninstalling: got %v and %s, want the webhook configuration deleted first", err, out)
	}
	env.Await(t, "the CRDs and the namespace to go", func() error {
		left := fmt.Sprint(c.named(t, []schema.GroupVersionKind{definitions, namespaces}))
		if strings.Contains(left, "fusegate") || strings.Contains(left, "gatekeeper") {
			return fmt.Errorf("left: %s", left)
		}
		return nil
	})
	if left := c.rules(t); len(left) > 0 {
		t.Errorf("the webhook configuration is back: %s", left)
	}
}
