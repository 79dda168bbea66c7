//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// hang is as long as a write may take that waits for the webhook's timeout of
// 3 s, on a machine that is slow.
const hang = 6 * time.Second

// startLimit is how long an API server may take to be ready, at which the
// backend's timeout for each of its writes would have made it late, or die.
const startLimit = 30 * time.Second

// nodes is how many kwok plays the kubelets of.
const nodes = 3

// clusterParts are the control plane's but for its API server.
var clusterParts = []string{"etcd", "kube-controller-manager", "kube-scheduler", "kwok"}

// restored has the cluster's last copy of etcd come up on new machines: the
// webhook configuration is there, armed for everything, and nobody behind it.
func restored(f *faultWorld, t *testing.T) string {
	f.Must(t, "", "delete", "nodes", "--all")
	f.Must(t, "", "delete", "pods", "--all", "-n", "fusegate-system", "--force")
	if err := f.CP.StopAPIServer(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	f.stop(t, clusterParts...)
	data := f.components["etcd"].arg("data-dir")
	if err := os.Rename(data, data+"-lost"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(data, os.DirFS(data+"-lost")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o700); err != nil {
		t.Fatal(err)
	}
	before := f.svc.calls()
	f.startAll(t, "etcd")
	ready, _ := f.startAPIServer(t, startLimit)
	f.startAll(t, "kube-controller-manager", "kube-scheduler", "kwok")
	start := time.Now()
	f.addNodes(t)
	joined := time.Since(start)
	scheduled := f.podsRun(t, "fusegate-system", "app.kubernetes.io/component=webhook", 3)
	if joined > startLimit || scheduled > startLimit {
		t.Errorf("nodes joined after %v and Fusegate's pods ran after %v, want %v", joined, scheduled, startLimit)
	}
	calls := f.svc.calls() - before
	if calls > 0 {
		t.Errorf("%d requests reached the backend, want none", calls)
	}
	return fmt.Sprintf("API server ready after %s, nodes joined after %s, Fusegate's 3 webhook pods were scheduled and running %s later; %d requests reached the backend",
		round(ready), round(joined), round(scheduled), calls)
}

// podsRun returns how long it took until so many pods ran.
func (f *faultWorld) podsRun(t *testing.T, namespace, selector string, n int) time.Duration {
	t.Helper()
	start := time.Now()
	env.Await(t, fmt.Sprintf("%d pods to run in %s", n, namespace), func() error {
		pods, err := f.admin.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		running := 0
		for _, p := range pods.Items {
			if p.Status.Phase == corev1.PodRunning && p.Spec.NodeName != "" && p.DeletionTimestamp == nil {
				running++
			}
		}
		if running != n {
			return fmt.Errorf("%d of %d run", running, len(pods.Items))
		}
		return nil
	})
	return time.Since(start)
}

func apiServerRestarts(f *faultWorld, t *testing.T) string {
	if err := f.CP.StopAPIServer(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ready, calls := f.startAPIServer(t, startLimit)
	return fmt.Sprintf("ready after %s, the backend called %d times", round(ready), calls)
}

// missing deletes what API servers make themselves when they start, while there
// is none, as if the next version had brought it, and starts one.
func (f *faultWorld) missing(t *testing.T, prefixes ...string) (gone []int, ready time.Duration, calls int) {
	t.Helper()
	if err := f.CP.StopAPIServer(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range prefixes {
		n := f.etcdRange(t, "kv/deleterange", prefix)
		if n == 0 {
			t.Errorf("etcd has nothing at %s: nothing is missing", prefix)
		}
		gone = append(gone, n)
	}
	ready, calls = f.startAPIServer(t, startLimit)
	for i, prefix := range prefixes {
		env.Await(t, prefix+" to be back", func() error {
			if back := f.etcdRange(t, "kv/range", prefix); back != gone[i] {
				return fmt.Errorf("%d of %d", back, gone[i])
			}
			return nil
		})
	}
	return gone, ready, calls
}

func bootstrapMissing(f *faultWorld, t *testing.T) string {
	gone, ready, calls := f.missing(t, "/registry/clusterroles/system:", "/registry/flowschemas/", "/registry/prioritylevelconfigurations/")
	return fmt.Sprintf("%d ClusterRoles, %d FlowSchemas and %d PriorityLevelConfigurations missing: ready after %s, all made again, the backend called %d times",
		gone[0], gone[1], gone[2], round(ready), calls)
}

func addressesMissing(f *faultWorld, t *testing.T) string {
	gone, ready, calls := f.missing(t, "/registry/ipaddresses/")
	w := f.request(t.Context(), controlplane.Admin, "POST", "application/json", "/api/v1/namespaces/kube-system/services",
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"another"},"spec":{"ports":[{"port":80}]}}`)
	if w.err != nil || w.took > atOnce {
		t.Errorf("making a Service in kube-system: %s", w)
	}
	return fmt.Sprintf("all %d missing: ready after %s, all made again, a Service in kube-system made in %s, the backend called %d times", gone[0], round(ready), round(w.took), calls)
}

// leadersRestart kills them and starts them with leader election, and looks at
// how far apart the renewals of their Leases are. They give up at 10 s.
func leadersRestart(f *faultWorld, t *testing.T) string {
	names := []string{"kube-controller-manager", "kube-scheduler"}
	f.stop(t, names...)
	start := time.Now()
	for _, name := range names {
		f.components[name].start(t, "--leader-elect=true")
	}
	leases := map[string]*renewals{}
	for _, name := range names {
		leases[name] = &renewals{last: start}
	}
	const observed = 12 * time.Second
	var elected time.Duration
	for time.Since(start) < elected+observed {
		for name, r := range leases {
			r.look(t.Context(), f, "kube-system", name)
		}
		if elected == 0 && leases[names[0]].n > 0 && leases[names[1]].n > 0 {
			elected = time.Since(start)
		}
		if time.Since(start) > env.Patience {
			t.Fatal("nobody was elected")
		}
		pass(t.Context(), 100*time.Millisecond)
	}
	longest := max(leases[names[0]].longest, leases[names[1]].longest)
	if renewed := min(leases[names[0]].n, leases[names[1]].n); longest > 5*time.Second || renewed < 3 {
		t.Errorf("Leases were renewed %d times, %v apart at most, want 5 s", renewed, longest)
	}
	return fmt.Sprintf("both elected after %s, then renewed their Leases at most %s apart (they give up at 10 s)", round(elected), round(longest))
}

// renewals are what is seen of a Lease.
type renewals struct {
	n       int
	last    time.Time     // before the first, the time that counts as one
	longest time.Duration // between two
}

func (r *renewals) look(ctx context.Context, f *faultWorld, namespace, name string) {
	lease, err := f.admin.CoordinationV1().Leases(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return
	}
	now := ptr.Deref(lease.Spec.RenewTime, metav1.MicroTime{}).Time
	if !now.After(r.last) {
		return
	}
	r.n, r.longest, r.last = r.n+1, max(r.longest, now.Sub(r.last)), now
}

// watch sees whether nodes stay ready and their Leases are renewed.
type watch struct {
	start  time.Time
	leases map[string]*renewals
	nodes  int
	lost   []string // nodes that were not ready
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (f *faultWorld) watch(t *testing.T) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w := &watch{start: time.Now(), leases: map[string]*renewals{}, cancel: cancel}
	w.done.Go(func() {
		for ctx.Err() == nil {
			w.look(ctx, f)
			pass(ctx, 500*time.Millisecond)
		}
	})
	return w
}

// watching is a watch that began with this case or with one before, all of which
// leave nodes and API server alone.
func (f *faultWorld) watching(t *testing.T) *watch {
	t.Helper()
	if f.watched == nil {
		f.watched = f.watch(t)
	}
	return f.watched
}

func (f *faultWorld) unwatch() {
	if f.watched == nil {
		return
	}
	f.watched.cancel()
	f.watched.done.Wait()
	f.watched = nil
}

func (w *watch) look(ctx context.Context, f *faultWorld) {
	nodes, err := f.admin.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	w.nodes = len(nodes.Items)
	for _, n := range nodes.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				w.lost = append(w.lost, n.Name)
			}
		}
		if w.leases[n.Name] == nil {
			w.leases[n.Name] = &renewals{last: w.start}
		}
		w.leases[n.Name].look(ctx, f, corev1.NamespaceNodeLease, n.Name)
	}
}

// kubeletsRenew waits until the backend has hung for longer than it takes to
// lose nodes, which is 50 s.
func kubeletsRenew(f *faultWorld, t *testing.T) string {
	w := f.watching(t)
	pass(t.Context(), time.Until(w.start.Add(time.Minute)))
	f.unwatch()
	longest, renewed := time.Duration(0), 0
	for _, r := range w.leases {
		longest, renewed = max(longest, r.longest), renewed+r.n
	}
	if len(w.lost) > 0 || w.nodes == 0 || renewed < 3*w.nodes || longest > 40*time.Second {
		t.Errorf("of %d nodes %q were not ready; %d renewals, %v apart at most", w.nodes, w.lost, renewed, longest)
	}
	return fmt.Sprintf("%d nodes ready all the time for %s, Leases renewed %d times, at most %s apart (due every 10 s; a node is lost after 50 s); a minute, not ten",
		w.nodes, round(time.Since(w.start)), renewed, round(longest))
}

func daemonSet(namespace string) string {
	return fusegate.Object("apps/v1", "DaemonSet", namespace, "cni", `spec:
  selector: {matchLabels: {app: cni}}
  template:
    metadata: {labels: {app: cni}}
    spec:
      tolerations: [{operator: Exists}]
      containers: [{name: c, image: registry.example.com/cni}]`)
}

// noCNI lets no other pods to the nodes, and starts a CNI's: in kube-system, and
// in a namespace of its own that Fusegate does not know of.
func noCNI(f *faultWorld, t *testing.T) string {
	f.watching(t)
	f.kubeletsWatch(t)
	f.network(t, "True")
	f.Must(t, daemonSet("kube-system"), "create", "-f", "-")
	inside := f.podsRun(t, "kube-system", "app=cni", 3)
	// Two rounds of creations, each of which waited, would take 6 s.
	if inside > 4*time.Second {
		t.Errorf("a CNI's pods ran after %v in kube-system; what became of them:\n%s", inside,
			f.Must(t, "", "get", "pods,daemonsets,events", "-n", "kube-system", "-o", "yaml"))
	}
	f.Must(t, "", "create", "namespace", "calico-system")
	f.Must(t, daemonSet("calico-system"), "create", "-f", "-")
	outside := f.podsRun(t, "calico-system", "app=cni", 3)
	f.network(t, "False")
	f.Must(t, "", "delete", "daemonset", "-n", "kube-system", "cni", "--wait=false")
	if outside > startLimit {
		t.Errorf("a CNI's pods ran after %v outside the perimeter, want %v", outside, startLimit)
	}
	return fmt.Sprintf("3 pods of a DaemonSet ran after %s in kube-system, and after %s in a namespace outside the perimeter, where each round of creations waits 3 s", round(inside), round(outside))
}

// kubeletsWatch waits until kwok sees pods again. After each restart of an API
// server it looks for it with pauses that grow, up to a minute (client-go's
// Reflector), which has nothing to do with what a webhook does to creations.
func (f *faultWorld) kubeletsWatch(t *testing.T) {
	t.Helper()
	f.Must(t, fusegate.Object("v1", "Pod", "kube-system", "seen", fmt.Sprintf(`spec:
  nodeName: %s
  tolerations: [{operator: Exists}]
  containers: [{name: c, image: registry.example.com/seen}]`, f.kubelets[0])), "create", "-f", "-")
	f.Must(t, "", "wait", "pod", "-n", "kube-system", "seen", "--for=jsonpath={.status.phase}=Running", "--timeout=90s")
	f.Must(t, "", "delete", "pod", "-n", "kube-system", "seen", "--wait=false")
}

// network says of all nodes whether their network is unavailable; the node
// controller taints those.
func (f *faultWorld) network(t *testing.T, unavailable string) {
	t.Helper()
	for _, node := range f.kubelets {
		f.Must(t, "", "patch", "node", node, "--subresource=status", "--type=strategic", "-p", fmt.Sprintf(
			`{"status":{"conditions":[{"type":"NetworkUnavailable","status":%q,"reason":"CNI"}]}}`, unavailable))
	}
	env.Await(t, "the nodes' taints", func() error {
		got := f.Must(t, "", "get", "nodes", "-o", "jsonpath={.items[*].spec.taints[*].key}")
		if tainted := strings.Count(got, "network-unavailable"); (unavailable == "True") != (tainted == nodes) {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}

const failingWebhook = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: third-party}
webhooks:
- name: third-party.example.com
  clientConfig: {url: "https://127.0.0.1:1/"}
  failurePolicy: Fail
  timeoutSeconds: 1
  sideEffects: None
  admissionReviewVersions: [v1]
  rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]
`

// thirdParty has somebody's webhook refuse every pod. Fusegate is not what it
// waits for, nor the other way round.
func thirdParty(f *faultWorld, t *testing.T) string {
	f.watching(t)
	f.Must(t, failingWebhook, "create", "-f", "-")
	pod := strings.Fields(f.Must(t, "", "get", "pods", "-n", "fusegate-system", "-l", "app.kubernetes.io/component=webhook", "-o", "name"))[0]
	f.Must(t, "", "delete", "-n", "fusegate-system", pod)
	env.Await(t, "the pod's successor to be refused", func() error {
		got := f.Must(t, "", "get", "replicaset", "-n", "fusegate-system", "-l", "app.kubernetes.io/component=webhook",
			"-o", "jsonpath={.items[*].status.conditions[?(@.type=='ReplicaFailure')].message}")
		if !strings.Contains(got, "third-party.example.com") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	w := f.write(t.Context())
	if w.err != nil || w.took > hang {
		t.Errorf("a tenant's write was %s", w)
	}
	f.Must(t, "", "delete", "validatingwebhookconfiguration", "third-party")
	back := f.podsRun(t, "fusegate-system", "app.kubernetes.io/component=webhook", 3)
	return fmt.Sprintf("a tenant's write meanwhile was %s; once that webhook was removed, Fusegate's pod was back after %s", w, round(back))
}

// stoppedAndStarted ends every process at once and starts them all.
func stoppedAndStarted(f *faultWorld, t *testing.T) string {
	former := f.leader(t)
	if err := f.CP.StopAPIServer(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	f.stop(t, clusterParts...)
	f.end(f.webhook, f.controller)
	f.svc.refuse()
	start := time.Now()
	f.startAll(t, "etcd")
	ready, _ := f.startAPIServer(t, startLimit)
	// A kubelet goes on with its Lease when it starts again. kwok is another
	// holder each time, and would wait until the former one's has expired.
	f.Must(t, "", "delete", "leases", "-n", "kube-node-lease", "--all")
	f.startAll(t, "kube-controller-manager", "kube-scheduler", "kwok")
	f.startController(t)
	f.startWebhook(t)
	f.until(t, "writes to be judged", func(w answered) bool { return w.judged })
	judged := time.Since(start)
	env.Await(t, "the nodes' Leases", func() error {
		for _, node := range f.kubelets {
			lease, err := f.admin.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), node, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if lease.Spec.RenewTime.Time.Before(start) {
				return fmt.Errorf("the Lease of %s was not renewed", node)
			}
		}
		return nil
	})
	heard := time.Since(start)
	f.newLeader(t, former)
	led := time.Since(start)
	if heard > startLimit || judged > startLimit {
		t.Errorf("nodes were heard of after %v and writes judged after %v, want %v", heard, judged, startLimit)
	}
	return fmt.Sprintf("API server ready after %s, writes judged again after %s, all nodes heard of after %s, Fusegate's controllers lead after %s, when the former leader's Lease has expired",
		round(ready), round(judged), round(heard), round(led))
}
