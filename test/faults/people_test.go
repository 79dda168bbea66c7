//go:build linux

package faults_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// entryAs applies fields to the policy entry as a field manager; without any,
// those it has applied go.
func (f *faultWorld) entryAs(t *testing.T, manager, fields string) {
	t.Helper()
	object := "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: fusegate}\n"
	if fields != "" {
		object += "webhooks: [{name: validation.fusegate.dev, " + fields + "}]\n"
	}
	f.apply(t, client.FieldOwner(manager), object)
}

// until makes writes until one is as wanted, and returns how long that took.
func (f *faultWorld) until(t *testing.T, what string, wanted func(answered) bool) time.Duration {
	t.Helper()
	start := time.Now()
	env.Await(t, what, func() error {
		if w := f.write(t.Context()); !wanted(w) {
			return fmt.Errorf("a tenant's write was %s", w)
		}
		return nil
	})
	return time.Since(start)
}

func unjudged(w answered) bool { return w.err == nil && !w.judged }

// serviceDeleted deletes the Service and makes it again, at the same address.
func serviceDeleted(f *faultWorld, t *testing.T) string {
	services := f.admin.CoreV1().Services(fusegate.Namespace)
	service, err := services.Get(t.Context(), install.ServiceName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := services.Delete(t.Context(), install.ServiceName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.svc.refuse()
	start := time.Now()
	writes := f.bypassed(t, 5, atOnce)
	noticed, _ := f.unenforced(t, start, "CanaryAdmitted")
	service.ObjectMeta = metav1.ObjectMeta{Name: service.Name, Labels: service.Labels, Annotations: service.Annotations}
	if _, err := services.Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.heal(t)
	again := f.enforced(t)
	return fmt.Sprintf("%s; the constraint said so after %s; enforced again %s after it was made again",
		writes, round(noticed), round(again))
}

// conditionErrors has somebody add a condition that cannot be evaluated.
func conditionErrors(f *faultWorld, t *testing.T) string {
	const metric = "apiserver_admission_match_condition_evaluation_errors_total"
	before, start := f.counted(t, metric), time.Now()
	f.entryAs(t, "meddler", `matchConditions: [{name: broken, expression: "object.spec.nosuch == 1"}]`)
	f.until(t, "writes to be let through", unjudged)
	writes := f.bypassed(t, 5, atOnce)
	noticed, message := f.unenforced(t, start, "NarrowedBy")
	for _, want := range []string{`matchConditions[name="broken"]`, `"meddler"`} {
		if !strings.Contains(message, want) {
			t.Errorf("the constraint says %q, want %s in it", message, want)
		}
	}
	errors := f.counted(t, metric) - before
	if errors < 5 {
		t.Errorf("the API server counted %d errors, want 5", errors)
	}
	f.entryAs(t, "meddler", "")
	again := f.enforced(t)
	return fmt.Sprintf("%s, the webhook skipped; the API server counted %d errors; the constraint said after %s who it was (NarrowedBy); enforced again after %s",
		writes, errors, round(noticed), round(again))
}

// namespaceLabelled has an admin give a tenant's namespace the label by which
// system namespaces are excluded.
func namespaceLabelled(f *faultWorld, t *testing.T) string {
	refused := f.Patch(t, controlplane.Admin, "/api/v1/namespaces/tenant-a", fmt.Sprintf(`{"metadata":{"labels":{%q:"kube-system"}}}`, corev1.LabelMetadataName))
	namespace, err := f.admin.CoreV1().Namespaces().Get(t.Context(), "tenant-a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, w := namespace.Labels[corev1.LabelMetadataName], f.write(t.Context())
	if got != "tenant-a" || w.err != nil || !w.judged {
		t.Errorf("the label is %q and a tenant's write was %s, want it to be judged", got, w)
	}
	how := "the API server refused it"
	if refused == nil {
		how = "the API server put the label back at once"
	}
	if refused != nil && !strings.Contains(refused.Error(), "metadata.name") {
		t.Errorf("got %v, want the label refused", refused)
	}
	return how + "; a write there was " + w.String()
}

// impersonated has an admin act as the API server, and a tenant try.
func impersonated(f *faultWorld, t *testing.T) string {
	as := func(user string) answered {
		return f.request(t.Context(), user, http.MethodPost, "application/json", tenantsPath, tenantsMap, http.Header{
			"Impersonate-User": {fusegate.APIServer}, "Impersonate-Group": {"system:masters"},
		})
	}
	if w := as(controlplane.Admin); w.err != nil || w.judged {
		t.Errorf("an admin as %s: %s, want it exempt", fusegate.APIServer, w)
	}
	if w := as(controlplane.Tenant); w.err == nil || !strings.Contains(w.err.Error(), "cannot impersonate") {
		t.Errorf("a tenant as %s: %s, want it refused", fusegate.APIServer, w)
	}
	return "an admin's write as system:apiserver is not judged; a tenant may not impersonate (RBAC). Audit, which is to report the object, comes later"
}

// probeBroken takes away the right to make canaries.
func probeBroken(f *faultWorld, t *testing.T) string {
	generation, start := f.generation(t), time.Now()
	f.mayDoToCanaries(t, "get")
	f.AwaitCondition(t, "denyall/everything", "Unknown", "CanaryUnknown")
	noticed := time.Since(start)
	w := f.write(t.Context())
	if after := f.generation(t); after != generation || w.err != nil || !w.judged {
		t.Errorf("the configuration's generation went from %d to %d and a write was %s, want nothing changed", generation, after, w)
	}
	f.mayDoToCanaries(t, "create")
	again := f.enforced(t)
	return fmt.Sprintf("no right to make canaries: Enforced was Unknown after %s, the configuration left as it was, a write %s; True again %s after the right was back", round(noticed), w, round(again))
}

// mayDoToCanaries changes what the controller has the right to.
func (f *faultWorld) mayDoToCanaries(t *testing.T, verb string) {
	t.Helper()
	roles := f.admin.RbacV1().ClusterRoles()
	role, err := roles.Get(t.Context(), "fusegate-controller", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Equal(r.Resources, []string{"canaries"}) })
	if at < 0 {
		t.Fatal("no rule about canaries")
	}
	role.Rules[at].Verbs = []string{verb}
	if _, err := roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// everythingDenied turns the warning into a denial, works the kill switch, and
// deletes the constraint.
func everythingDenied(f *faultWorld, t *testing.T) string {
	isDenied := func(w answered) bool { return w.err != nil && w.judged }
	f.apply(t, "test", strings.ReplaceAll(everythingWarns, "warn", "deny"))
	f.until(t, "writes to be denied", isDenied)
	w := f.watch(t)
	defer w.cancel()
	lease := f.renewLease(t)
	f.create(t, fusegate.Object("v1", "ConfigMap", "kube-system", "of-admin", ""))
	f.create(t, daemonSet("kube-system"))
	pods := f.podsRun(t, "kube-system", "app=cni", 3)
	f.remove(t, env.Object("apps/v1", "DaemonSet", "kube-system", "cni"))
	f.entryAs(t, "fusegate-fuse", `matchConditions: [{name: fuse-open, expression: "false"}]`)
	opened := f.until(t, "the kill switch to let writes through", unjudged)
	f.AwaitCondition(t, "denyall/everything", "False", "FuseOpen")
	f.entryAs(t, "fusegate-fuse", "")
	closed := f.until(t, "writes to be denied again", isDenied)
	f.remove(t, env.Parse(t, fusegate.DenyEverything))
	released := f.until(t, "writes to be let through", unjudged)
	w.cancel()
	w.done.Wait()
	if len(w.lost) > 0 || w.nodes == 0 {
		t.Errorf("of %d nodes %q were not ready", w.nodes, w.lost)
	}
	f.apply(t, "test", everythingWarns)
	f.enforced(t)
	return fmt.Sprintf("tenants denied; a node's Lease renewed in %s, 3 pods of a DaemonSet in kube-system ran after %s, all nodes ready; kill switch: writes through after %s, denied again after %s; constraint deleted: writes through after %s",
		round(lease), round(pods), round(opened), round(closed), round(released))
}

// lateLeader stops the leader's process for longer than its Lease lasts, and
// lets it go on when there is another. While both lead, somebody gives them
// something to put back.
func lateLeader(f *faultWorld, t *testing.T) string {
	f.watching(t)
	led := f.leader(t)
	old := f.newController(t, "controller-late")
	f.newLeader(t, led)
	first := f.leader(t)
	if err := old.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	f.controller = f.newController(t, "controller-next")
	f.controller.AwaitReady(t)
	f.newLeader(t, first)
	took, generation := time.Since(start), f.generation(t)
	if err := old.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	edits := f.failClosed(t)
	env.Await(t, "it to be put back", func() error {
		for _, w := range f.configuration(t).Webhooks {
			if *w.FailurePolicy != admissionregistrationv1.Ignore {
				return fmt.Errorf("the failurePolicy of %s is %s", w.Name, *w.FailurePolicy)
			}
		}
		return nil
	})
	mended := time.Since(start)
	_ = old.Wait() // it ends with an error, by design
	ended := time.Since(start)
	defer f.end(f.controller)
	writes := f.generation(t) - generation - edits
	if edits != 1 || writes != 1 || ended > startLimit {
		t.Errorf("the stale leader ended after %v; %d changes were put back by %d, want 1 by 1", ended, edits, writes)
	}
	return fmt.Sprintf("another leads after %s; the stale one, let go on, took %s to notice and ended; meanwhile failurePolicy was set to Fail, and back after %s, by %d change of the configuration", round(took), round(ended), round(mended), writes)
}

// leader is who holds the controllers' Lease.
func (f *faultWorld) leader(t *testing.T) string {
	t.Helper()
	lease, err := f.admin.CoordinationV1().Leases(fusegate.Namespace).Get(t.Context(), "fusegate-controller", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

// newLeader waits until another than the former leads.
func (f *faultWorld) newLeader(t *testing.T, former string) {
	t.Helper()
	env.Await(t, "another leader", func() error {
		if got := f.leader(t); got == former || got == "" {
			return fmt.Errorf("the leader is %q", got)
		}
		return nil
	})
}

// reverted has a writer set what the guard puts back, as soon as it does.
func reverted(f *faultWorld, t *testing.T) string {
	const lasts = 3 * time.Second
	l := f.press(t.Context(), 1)
	before, start, edits := f.generation(t), time.Now(), 0
	for time.Since(start) < lasts {
		edits += f.failClosed(t)
		pass(t.Context(), 20*time.Millisecond)
	}
	guards := f.generation(t) - before - edits
	noticed, message := f.unenforced(t, start, "Contested")
	if !strings.Contains(message, "gitops") {
		t.Errorf("the constraint says %q, want it to name the writer", message)
	}
	again := f.enforced(t)
	l.stop(t)
	// A put-back and a disarming for each round; without a pause there would be
	// hundreds.
	if guards > 20 || edits < 3 || again > startLimit {
		t.Errorf("in %v the guard wrote %d times and the writer %d times; it was over %v later", lasts, guards, edits, again)
	}
	return fmt.Sprintf("failurePolicy set to Fail whenever it was not, for %s: the writer wrote %d times and the guard %d times, with growing pauses, the webhook without rules in between; contested after %s at the latest; enforced again %s after the end; a tenant meanwhile: %s",
		lasts, edits, guards, round(noticed), round(again), l)
}

// failClosed sets the policy entry to Fail if it is not, and returns the number
// of its writes.
func (f *faultWorld) failClosed(t *testing.T) int {
	t.Helper()
	live := f.configuration(t)
	if *live.Webhooks[0].FailurePolicy == admissionregistrationv1.Fail {
		return 0
	}
	live.Webhooks[0].FailurePolicy = ptr.To(admissionregistrationv1.Fail)
	if _, err := f.admin.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(t.Context(), live, metav1.UpdateOptions{FieldManager: "gitops"}); err != nil {
		return 0 // The guard was first.
	}
	return 1
}

// uninstalled removes Fusegate, processes and all, while a tenant writes.
func uninstalled(f *faultWorld, t *testing.T) string {
	l := f.press(t.Context(), 4)
	l.await(t, 100)
	start := time.Now()
	out, err := fusegate.Command("uninstall", "--kubeconfig", f.CP.Kubeconfig(controlplane.Admin)).CombinedOutput()
	took := time.Since(start)
	first, _, _ := strings.Cut(string(out), "\n")
	if err != nil || first != "ValidatingWebhookConfiguration fusegate deleted" {
		t.Errorf("uninstalling: got %v and %s, want the webhook configuration deleted first", err, out)
	}
	looked := 3 * fusegate.Timings.Guard // how often the guard looks, and more
	for start := time.Now(); time.Since(start) < looked; pass(t.Context(), 200*time.Millisecond) {
		w := f.request(t.Context(), controlplane.Admin, http.MethodGet, "application/json",
			"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/"+install.ConfigurationName, "", nil)
		if w.err == nil || !strings.Contains(w.err.Error(), "404") {
			t.Fatalf("the webhook configuration is back: %s", w)
		}
	}
	f.end(f.webhook, f.controller)
	f.svc.refuse()
	writes := f.bypassed(t, 5, atOnce)
	l.stop(t)
	return fmt.Sprintf("the webhook configuration went first, all in %s, and stayed away for %s while the controller ran; %s; with the processes gone %s",
		round(took), looked, l, writes)
}
