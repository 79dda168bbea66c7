//go:build linux

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	err := errors.Join(
		f.admin.CoreV1().Nodes().DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}),
		f.admin.CoreV1().Pods(fusegate.Namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}, metav1.ListOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	f.stopAPIServer(t)
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
	if err := f.addNodes(t.Context()); err != nil {
		t.Fatal(err)
	}
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

// podsGone waits until a namespace has none.
func (f *faultWorld) podsGone(t *testing.T, namespace string) {
	t.Helper()
	env.Await(t, "the pods in "+namespace+" to be gone", func() error {
		pods, err := f.admin.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if n := len(pods.Items); n > 0 {
			return fmt.Errorf("%d are there", n)
		}
		return nil
	})
}

func apiServerRestarts(f *faultWorld, t *testing.T) string {
	f.stopAPIServer(t)
	ready, calls := f.startAPIServer(t, startLimit)
	return fmt.Sprintf("ready after %s, the backend called %d times", round(ready), calls)
}

// missing deletes what API servers make themselves when they start, while there
// is none, as if the next version had brought it, and starts one.
func (f *faultWorld) missing(t *testing.T, prefixes ...string) (gone []int, ready time.Duration, calls int) {
	t.Helper()
	f.stopAPIServer(t)
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
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"another"},"spec":{"ports":[{"port":80}]}}`, nil)
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
	// Each is elected, and renews three times.
	const seen = 4
	var elected time.Duration
	for renewed := 0; renewed < seen; {
		for name, r := range leases {
			r.look(t.Context(), f, "kube-system", name)
		}
		renewed = min(leases[names[0]].n, leases[names[1]].n)
		if elected == 0 && renewed > 0 {
			elected = time.Since(start)
		}
		if time.Since(start) > env.Patience {
			t.Fatalf("Leases were renewed %d times, want %d", renewed, seen)
		}
		pass(t.Context(), 100*time.Millisecond)
	}
	longest := max(leases[names[0]].longest, leases[names[1]].longest)
	if longest > 5*time.Second {
		t.Errorf("Leases were renewed %v apart at most, want 5 s", longest)
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
	if len(w.lost) > 0 || w.nodes != nodes || renewed < 3*w.nodes || longest > 40*time.Second {
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
	f.network(t, corev1.ConditionTrue)
	before := f.failedOpen(t)
	f.create(t, daemonSet("kube-system"))
	inside := f.podsRun(t, "kube-system", "app=cni", 3)
	if waited := f.failedOpen(t) - before; waited > 0 || inside > startLimit {
		t.Errorf("a CNI's pods ran after %v in kube-system, want %v, and %d writes waited for the backend, want none; what became of them:\n%s", inside, startLimit, waited,
			f.Must(t, "", "get", "pods,daemonsets,events", "-n", "kube-system", "-o", "yaml"))
	}
	f.create(t, fusegate.Object("v1", "Namespace", "", "calico-system", ""))
	f.create(t, daemonSet("calico-system"))
	outside := f.podsRun(t, "calico-system", "app=cni", 3)
	f.network(t, corev1.ConditionFalse)
	f.remove(t, env.Object("apps/v1", "DaemonSet", "kube-system", "cni"))
	// Left there, it would make its pods again whenever nodes are new or late, and
	// the backend would be asked about them in cases in which nobody may ask it.
	f.remove(t, env.Object("apps/v1", "DaemonSet", "calico-system", "cni"))
	f.podsGone(t, "calico-system")
	if outside > startLimit {
		t.Errorf("a CNI's pods ran after %v outside the perimeter, want %v", outside, startLimit)
	}
	return fmt.Sprintf("3 pods of a DaemonSet ran after %s in kube-system, and after %s in a namespace outside the perimeter, where each round of creations waits 3 s", round(inside), round(outside))
}

// network says of all nodes whether their network is unavailable; the node
// controller taints those.
func (f *faultWorld) network(t *testing.T, unavailable corev1.ConditionStatus) {
	t.Helper()
	for _, node := range f.kubelets {
		_, err := f.admin.CoreV1().Nodes().Patch(t.Context(), node, types.StrategicMergePatchType, fmt.Appendf(nil,
			`{"status":{"conditions":[{"type":%q,"status":%q,"reason":"CNI"}]}}`, corev1.NodeNetworkUnavailable, unavailable), metav1.PatchOptions{}, "status")
		if err != nil {
			t.Fatal(err)
		}
	}
	env.Await(t, "the nodes' taints", func() error {
		list, err := f.admin.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		tainted := 0
		for _, n := range list.Items {
			if slices.ContainsFunc(n.Spec.Taints, func(taint corev1.Taint) bool { return taint.Key == corev1.TaintNodeNetworkUnavailable }) {
				tainted++
			}
		}
		if (unavailable == corev1.ConditionTrue) != (tainted == nodes) {
			return fmt.Errorf("%d nodes have the taint", tainted)
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
	f.create(t, failingWebhook)
	ours := metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=webhook"}
	pods, err := f.admin.CoreV1().Pods(fusegate.Namespace).List(t.Context(), ours)
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("got %d pods of Fusegate's: %v", len(pods.Items), err)
	}
	f.remove(t, env.Object("v1", "Pod", fusegate.Namespace, pods.Items[0].Name))
	env.Await(t, "the pod's successor to be refused", func() error {
		sets, err := f.admin.AppsV1().ReplicaSets(fusegate.Namespace).List(t.Context(), ours)
		if err != nil {
			return err
		}
		for _, s := range sets.Items {
			for _, c := range s.Status.Conditions {
				if c.Type == appsv1.ReplicaSetReplicaFailure && strings.Contains(c.Message, "third-party.example.com") {
					return nil
				}
			}
		}
		return fmt.Errorf("%d ReplicaSets do not say so", len(sets.Items))
	})
	w := f.write(t.Context())
	if w.err != nil || w.took > hang {
		t.Errorf("a tenant's write was %s", w)
	}
	f.remove(t, env.Object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", "third-party"))
	back := f.podsRun(t, "fusegate-system", "app.kubernetes.io/component=webhook", 3)
	return fmt.Sprintf("a tenant's write meanwhile was %s; once that webhook was removed, Fusegate's pod was back after %s", w, round(back))
}

// stoppedAndStarted ends every process at once and starts them all.
func stoppedAndStarted(f *faultWorld, t *testing.T) string {
	former := f.leader(t)
	f.stopAPIServer(t)
	f.stop(t, clusterParts...)
	f.end(f.webhook, f.controller)
	f.svc.refuse()
	start := time.Now()
	f.startAll(t, "etcd")
	ready, _ := f.startAPIServer(t, startLimit)
	// A kubelet goes on with its Lease when it starts again. kwok is another
	// holder each time, and would wait until the former one's has expired.
	err := f.admin.CoordinationV1().Leases(corev1.NamespaceNodeLease).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
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
