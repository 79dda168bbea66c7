package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// restricted has install restrict who reaches the webhook's port, on a network that
// knows no NetworkPolicy: it stays while the webhook answers, is taken back when the
// webhook is stopped, which for the API server is what dropped packets are, and goes
// with the setting.
func (c *testCluster) restricted(t *testing.T, webhook *fusegate.Manager) {
	t.Helper()
	defer c.kubelet(t)()
	run := func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		return fusegate.Run(t, "", append([]string{
			"install", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin), "--service-port=9443", "--reports=openreports",
			"--timeout", env.Patience.String(), "--api-servers", c.CP.Config(controlplane.Admin).Host,
		}, args...)...)
	}
	const name = "NetworkPolicy fusegate-system/fusegate-webhook "
	policy := env.Object("networking.k8s.io/v1", "NetworkPolicy", fusegate.Namespace, "fusegate-webhook")
	there := func() bool {
		t.Helper()
		err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(policy), policy.DeepCopy())
		if client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		return err == nil
	}

	start := time.Now()
	out, errs, code := run("--webhook-sources=127.0.0.0/8")
	armed, applied := strings.Index(out, "Waiting: ValidatingWebhookConfiguration fusegate: done"), strings.Index(out, name+"created")
	if code != 0 || armed < 0 || applied < armed || strings.Contains(out[max(applied, 0):], "Deployment") || !there() {
		t.Errorf("got code %d and %s%s, want the NetworkPolicy last, when the webhook is armed", code, out, errs)
	}
	if took := time.Since(start); took < fusegate.Timings.Restrict {
		t.Errorf("it was watched for less than %v", took)
	}
	if out, errs, code = run(); code != 0 || !strings.Contains(out, name+"deleted") || there() {
		t.Errorf("without the setting: got code %d and %s%s, want the NetworkPolicy deleted", code, out, errs)
	}

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		err := env.Poll(t.Context(), func() error {
			return c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(policy), policy.DeepCopy())
		})
		if err == nil {
			_ = webhook.Cmd.Process.Signal(syscall.SIGSTOP)
		}
	}()
	out, errs, code = run("--webhook-sources=127.0.0.0/8")
	<-stopped
	webhook.Signal(t, syscall.SIGCONT)
	if code != 1 || !strings.Contains(out, name+"created") || !strings.Contains(out, name+"deleted") || there() ||
		!strings.Contains(errs, "it was taken back: with it, the webhook does not answer API server "+c.CP.Config(controlplane.Admin).Host) {
		t.Errorf("with a webhook that stops answering: got code %d and %s%s, want the NetworkPolicy taken back", code, out, errs)
	}
	webhook.AwaitReady(t)
	if _, errs, code = run(); code != 0 {
		t.Errorf("installing as before: got code %d and %s", code, errs)
	}
	c.AwaitCondition(t, "podlabels/owner", "True", "CanaryAnswered")
}

// kubelet says of all of Fusegate's pods that they are ready, as nobody else does
// here, until the function that it returns is called.
func (c *testCluster) kubelet(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	cl := c.Client(t)
	go func() {
		defer close(done)
		_ = env.Poll(ctx, func() error { // it ends with ctx
			pods := &corev1.PodList{}
			if err := cl.List(ctx, pods, client.InNamespace(fusegate.Namespace)); err != nil {
				return err
			}
			for i := range pods.Items {
				pod := &pods.Items[i]
				if pod.Status.Phase == corev1.PodRunning {
					continue
				}
				pod.Status.Phase = corev1.PodRunning
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				_ = cl.Status().Update(ctx, pod) // tried again
			}
			return fmt.Errorf("there may be more pods")
		})
	}()
	return func() { cancel(); <-done }
}
