//go:build unix

package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fusegate/fusegate/test/controlplane"
)

const auditor = "auditor@example.com"

// TestControlPlane runs everything on one control plane and ends it.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	c := startOnDyingThread(t, controlplane.Options{
		Dir:               t.TempDir(),
		APIServers:        2,
		Standby:           1,
		ControllerManager: true,
		Scheduler:         true,
		Users:             []controlplane.User{{Name: auditor, Groups: []string{"auditors", "readers"}}},
		Log:               t.Output(),
	})
	for name, test := range map[string]func(*testing.T, *controlplane.ControlPlane){
		"Identities":      testIdentities,
		"TenantByRBAC":    testTenantByRBAC,
		"NodeAuthorizer":  testNodeAuthorizer,
		"ReplicaSet":      testReplicaSet,
		"TwoAPIServers":   testTwoAPIServers,
		"Kubectl":         testKubectl,
		"ServiceWebhook":  testServiceWebhook,
		"APIServerOutage": testAPIServerOutage,
		"Standby":         testStandby,
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
	t.Run("Stop", func(t *testing.T) { testStop(t, c) })
}

// startOnDyingThread calls Start on an OS thread that ends right after. A death
// signal tied to that thread would take the components with it.
func startOnDyingThread(t *testing.T, o controlplane.Options) *controlplane.ControlPlane {
	t.Helper()
	var c *controlplane.ControlPlane
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		c, err = controlplane.Start(t.Context(), o)
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func testIdentities(t *testing.T, c *controlplane.ControlPlane) {
	for name, want := range map[string][]string{
		controlplane.Admin:             {"system:masters"},
		controlplane.Tenant:            nil,
		controlplane.OtherTenant:       nil,
		controlplane.Node:              {"system:nodes"},
		controlplane.ControllerManager: nil,
		controlplane.Scheduler:         nil,
		auditor:                        {"auditors", "readers"},
	} {
		t.Run(name, func(t *testing.T) {
			config := must[*kubernetes.Clientset](t)(kubernetes.NewForConfig(c.Config(name)))
			got := must[*authenticationv1.SelfSubjectReview](t)(config.AuthenticationV1().SelfSubjectReviews().
				Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}))
			groups := slices.DeleteFunc(got.Status.UserInfo.Groups, func(g string) bool { return g == "system:authenticated" })
			if got.Status.UserInfo.Username != name || !slices.Equal(groups, want) {
				t.Errorf("got %q in %q, want groups %q", got.Status.UserInfo.Username, groups, want)
			}
		})
	}
}

func testTenantByRBAC(t *testing.T, c *controlplane.ControlPlane) {
	ns := newNamespace(t, c, "tenancy")
	secrets := clientOf(t, c, 0, controlplane.Tenant).CoreV1().Secrets(ns)
	if _, err := secrets.List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Fatalf("listing secrets without a role: got %v, want Forbidden", err)
	}
	_, err := clientOf(t, c, 0, controlplane.Admin).RbacV1().RoleBindings(ns).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: controlplane.Tenant}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := secrets.List(ctx, metav1.ListOptions{})
		return err
	})
	if _, err := clientOf(t, c, 0, controlplane.OtherTenant).CoreV1().Secrets(ns).
		List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("listing the secrets of another tenant: got %v, want Forbidden", err)
	}
}

// testNodeAuthorizer uses what only the node authorizer tells apart: a node may
// renew its own lease, but see no secret that no pod of its mounts.
func testNodeAuthorizer(t *testing.T, c *controlplane.ControlPlane) {
	node := clientOf(t, c, 0, controlplane.Node)
	lease := node.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if _, err := lease.Get(t.Context(), "node-1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("reading its own lease: got %v, want NotFound", err)
	}
	if _, err := node.CoreV1().Secrets("default").Get(t.Context(), "any", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("reading a secret: got %v, want Forbidden", err)
	}
}

// testReplicaSet sees the work of the controller manager, which acts under its
// service accounts, and of the scheduler.
func testReplicaSet(t *testing.T, c *controlplane.ControlPlane) {
	ns := newNamespace(t, c, "workload")
	admin := clientOf(t, c, 0, controlplane.Admin)
	_, err := admin.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1"},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AppsV1().ReplicaSets(ns).Create(t.Context(), replicaSet(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		pods, err := admin.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 || pods.Items[0].Spec.NodeName != "node-1" || pods.Items[0].Spec.ServiceAccountName != "default" {
			return fmt.Errorf("%d pods, want one on node-1 with the service account default", len(pods.Items))
		}
		return nil
	})
}

// replicaSet tolerates everything, since its node has no kubelet and thus never
// becomes ready.
func replicaSet() *appsv1.ReplicaSet {
	labels := map[string]string{"app": "web"}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers:  []corev1.Container{{Name: "web", Image: "registry.example/web:1"}},
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
				},
			},
		},
	}
}

func testTwoAPIServers(t *testing.T, c *controlplane.ControlPlane) {
	if a, b := c.ConfigOf(0, controlplane.Admin).Host, c.ConfigOf(1, controlplane.Admin).Host; a == b {
		t.Fatalf("both API servers are at %s", a)
	}
	for from, to := range []int{1, 0} {
		name := fmt.Sprintf("from-%d", from)
		_, err := clientOf(t, c, from, controlplane.Admin).CoreV1().ConfigMaps("default").Create(t.Context(),
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := clientOf(t, c, to, controlplane.Admin).CoreV1().ConfigMaps("default").
			Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Errorf("what API server %d wrote is not at %d: %v", from, to, err)
		}
	}
}

func testKubectl(t *testing.T, c *controlplane.ControlPlane) {
	const manifest = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"by-kubectl"}}`
	stdout, stderr, err := c.Kubectl(t.Context(), controlplane.Admin, manifest, "apply", "-f", "-")
	if want := "configmap/by-kubectl created\n"; err != nil || stdout != want {
		t.Errorf("applying: got %q, %q, %v, want %q", stdout, stderr, err, want)
	}
	stdout, _, err = c.Kubectl(t.Context(), controlplane.Admin, "", "version", "-o", "json")
	if err != nil || strings.Count(stdout, controlplane.Tested()) != 2 {
		t.Errorf("version: got %s, %v, want %s of client and server", stdout, err, controlplane.Tested())
	}
	_, stderr, err = c.Kubectl(t.Context(), controlplane.Tenant, "", "get", "secrets")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(stderr, "forbidden") || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("as tenant: got %q, %v, want an exit error that says forbidden", stderr, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.KubeconfigOf(1, auditor))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.ConfigOf(1, auditor).Host, config.Host); diff != "" {
		t.Errorf("kubeconfig of API server 1: %s", diff)
	}
}

func testAPIServerOutage(t *testing.T, c *controlplane.ControlPlane) {
	host := c.ConfigOf(1, controlplane.Admin).Host
	if err := c.StopAPIServer(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(host)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while it is down: got %v, want connection refused", err)
	}
	if _, ok := c.Processes()["kube-apiserver-1"]; ok {
		t.Error("the stopped API server is listed")
	}
	if _, err := clientOf(t, c, 0, controlplane.Admin).Discovery().ServerVersion(); err != nil {
		t.Errorf("the other API server: %v", err)
	}
	if err := c.RestartAPIServer(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := c.ConfigOf(1, controlplane.Admin).Host; got != host {
		t.Errorf("it came back at %s, was at %s", got, host)
	}
	if _, err := clientOf(t, c, 1, controlplane.Admin).Discovery().ServerVersion(); err != nil {
		t.Errorf("after its restart: %v", err)
	}
}

func testStop(t *testing.T, c *controlplane.ControlPlane) {
	pids := c.Processes()
	if len(pids) != 5 {
		t.Fatalf("got %v, want five components still running", pids)
	}
	for range 2 {
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	for name, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s, process %d: got %v, want it gone", name, pid, err)
		}
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("data directory: got %v, want it gone", err)
	}
	if len(c.Processes()) != 0 {
		t.Errorf("processes after Stop: %v", c.Processes())
	}
	if err := c.StartAPIServer(t.Context(), 0); err == nil {
		t.Error("starting an API server after Stop: no error")
	}
}

// TestStartFails checks that a start which fails says why and cleans up.
func TestStartFails(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		reason  string
		ctx     context.Context
		options controlplane.Options
		want    string
		is      error
	}{
		"BadFlag": {
			reason:  "The error quotes the log of the component that refused to start.",
			ctx:     t.Context(),
			options: controlplane.Options{APIServerArgs: []string{"--no-such-flag"}},
			want:    "unknown flag: --no-such-flag",
		},
		"Cancelled": {
			reason: "The context ends the wait.",
			ctx:    ended,
			want:   "waiting for etcd",
			is:     context.Canceled,
		},
		"TakenName": {
			reason:  "Two users of one name would silently be one.",
			ctx:     t.Context(),
			options: controlplane.Options{Users: []controlplane.User{{Name: controlplane.Admin}}},
			want:    `user "admin"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tc.options.Dir = dir
			_, err := controlplane.Start(tc.ctx, tc.options)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want it to contain %q", tc.reason, err, tc.want)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%s: got %v, want %v", tc.reason, err, tc.is)
			}
			left := must[[]string](t)(filepath.Glob(filepath.Join(dir, "*")))
			if len(left) > 0 {
				t.Errorf("%s: left behind: %q", tc.reason, left)
			}
		})
	}
}

func newNamespace(t *testing.T, c *controlplane.ControlPlane, name string) string {
	t.Helper()
	_, err := clientOf(t, c, 0, controlplane.Admin).CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return name
}
