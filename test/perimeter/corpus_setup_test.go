package perimeter_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// corpusRuns is how often every call is made: with a webhook that answers, and with
// one that hangs.
const corpusRuns = 2

// corpusUsers are the identities of the corpus as an API server would have
// them from certificates and service account tokens.
func corpusUsers() []controlplane.User {
	users := []controlplane.User{
		{Name: fusegate.APIServer, Groups: []string{"system:masters"}},
		{Name: bootstrapping, Groups: []string{"system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"}},
		{Name: alice, Groups: []string{"system:nodes"}},
		{Name: cloudManager}, {Name: addonManager}, {Name: kubeProxy}, {Name: mallory},
	}
	known := map[string]bool{}
	for _, list := range [][]call{corpusExempt, addOns, tableExempt, tableJudged, tableConnect} {
		for _, k := range list {
			name, isAccount := strings.CutPrefix(k.user, "system:serviceaccount:")
			if namespace, _, _ := strings.Cut(name, ":"); isAccount && !known[name] {
				known[name] = true
				users = append(users, controlplane.User{Name: k.user, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}})
			}
		}
	}
	return users
}

// inCluster installs Fusegate behind its Service and runs its controller, with
// the rights of its manifests. It returns the address of the Service and the
// folder of its certificate.
func inCluster(t *testing.T, cp *controlplane.ControlPlane) (c *testCluster, controller *fusegate.Manager, address, certs string) {
	t.Helper()
	c = &testCluster{fusegate.On(t, cp)}
	// Nothing here maps a Service's port to another.
	if out, err := fusegate.Command("install", "--kubeconfig", cp.Kubeconfig(asAdmin), "--service-port=9443").CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
	var service corev1.Service
	if err := c.Client(t).Get(t.Context(), client.ObjectKey{Namespace: fusegate.Namespace, Name: "fusegate-webhook"}, &service); err != nil {
		t.Fatal(err)
	}
	address = service.Spec.ClusterIP + ":9443"
	certs = filepath.Join(c.Dir, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	controller = c.ServeAs(t, "fusegate-controller", "--roles=controller", "--rotate-certs")
	c.MountSecret(t, certs)
	return c, controller, address, certs
}

// corpusCluster starts a control plane with all that the corpus is about, and
// arms Fusegate for every kind with a constraint that denies everything.
func corpusCluster(t *testing.T) (c *testCluster, by caller, controller *fusegate.Manager) {
	t.Helper()
	cp := env.Start(t, controlplane.Options{
		ControllerManager: true, Users: corpusUsers(),
		// Off by default in this version, and in the corpus.
		APIServerArgs: []string{"--feature-gates=PodCertificateRequest=true", "--runtime-config=certificates.k8s.io/v1beta1/podcertificaterequests=true"},
	})
	c, controller, address, certs := inCluster(t, cp)
	c.Manager = c.ServeAs(t, "fusegate-webhook", "--roles=webhook", "--cert-dir="+certs, "--listen="+address)
	by = caller{cp: cp, words: certificateRequests(t)}
	c.populate(t, by)
	c.Manager.AwaitReady(t)
	controller.AwaitReady(t)
	c.Apply(t, fusegate.DenyAll)
	c.AwaitTemplate(t, "denyall")
	for n := range corpusRuns {
		c.Apply(t, denyEverywhere(fmt.Sprintf("spare-%d", n), "deny", "nowhere"))
	}
	c.Apply(t, fusegate.DenyEverything)
	c.AwaitCreate(t, fusegate.Object("v1", "ConfigMap", "tenant-a", "mine", ""), fusegate.Denied+"[everything] no CREATE of ConfigMap")
	return c, by, controller
}

// denyEverywhere is a constraint of fusegate.DenyAll in some namespaces, or in all.
func denyEverywhere(name, action string, namespaces ...string) string {
	match := ""
	if len(namespaces) > 0 {
		match = fmt.Sprintf("scope: Namespaced, namespaces: [%s]", strings.Join(namespaces, ", "))
	}
	return fmt.Sprintf("apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: DenyAll\nmetadata: {name: %s}\nspec: {enforcementAction: %s, match: {%s}}\n",
		name, action, match)
}

// certificateRequests are the words for a request for a certificate.
func certificateRequests(t *testing.T) *strings.Replacer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return strings.NewReplacer("$CSR", base64.StdEncoding.EncodeToString(block), "$DER", base64.StdEncoding.EncodeToString(der))
}

// populate makes the objects that the calls are about.
func (c *testCluster) populate(t *testing.T, by caller) {
	t.Helper()
	c.Apply(t, env.Read(t, "testdata", "corpus.yaml"))
	for _, user := range []string{
		alice, mallory, bootstrapping, cloudManager, addonManager, kubeProxy, ownAccount, calico, provisioner, deviceDriver, deployer,
		kubeSystem("cloud-controller-manager"), kubeSystem("cluster-autoscaler"),
	} {
		c.CreateAll(t, binding("ClusterRoleBinding", "", "corpus-"+strings.ReplaceAll(user, ":", "."), "cluster-admin", user))
	}
	for _, namespace := range []string{"tenant-a", "tenant-b"} {
		c.CreateAll(t, binding("RoleBinding", namespace, "tenant", "cluster-admin", asTenant))
	}
	c.Apply(t, by.words.Replace(victims()))
	env.AwaitObject(t, c.Client(t), env.Object("apps/v1", "Deployment", "tenant-a", "idle"), "the Deployment to be available", func(u *unstructured.Unstructured) error {
		return fusegate.StatusOf(t, u).Condition("Available", "True", "")
	})
	for n := range corpusRuns {
		c.succeeds(t, by, call{"", asNode, "PATCH v1 tenant-a pods/evict-$N/status", `status: {phase: Running, conditions: [{type: Ready, status: "True"}]}`}, n)
	}
	// The node authorizer has to see the pod first, and RBAC the bindings.
	c.succeeds(t, by, call{"", asNode, "POST v1 tenant-a serviceaccounts/default/token", `apiVersion: authentication.k8s.io/v1, kind: TokenRequest, metadata: {}, spec: {boundObjectRef: {apiVersion: v1, kind: Pod, name: bound}}`}, 0)
	env.AwaitObject(t, c.Client(t), env.Object("policy/v1", "PodDisruptionBudget", "tenant-a", "lax"), "an eviction to be allowed", func(u *unstructured.Unstructured) error {
		if got, _, _ := unstructured.NestedInt64(u.Object, "status", "disruptionsAllowed"); got != corpusRuns {
			return fmt.Errorf("allowed: %d", got)
		}
		return nil
	})
}

// binding binds a user to a ClusterRole.
func binding(kind, namespace, name, role, user string) string {
	return fusegate.Object("rbac.authorization.k8s.io/v1", kind, namespace, name, fmt.Sprintf(
		"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %s}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %q}]", role, user))
}

// succeeds repeats a call until it does.
func (c *testCluster) succeeds(t *testing.T, by caller, k call, n int) {
	t.Helper()
	env.Await(t, k.what+" by "+k.user, func() error {
		o, err := by.request(t, k, n)
		if err == nil && !o.passed() {
			err = fmt.Errorf("%s", o)
		}
		return err
	})
}

// victims are what the calls of each run change for good.
func victims() string {
	var b strings.Builder
	add := func(text string) { b.WriteString("---\n" + text) }
	for n := range corpusRuns {
		for _, name := range []string{
			"bind", "bindings", "tenant-bind", "tenant-bindings", "label-bind", "label-bindings", "system-bind", "tenant-evict", "node-controller", "pod-garbage-collector",
			"generic-garbage-collector", "kube-scheduler", "kubelet", "replicaset-controller",
		} {
			add(fusegate.Object("v1", "Pod", "tenant-a", fmt.Sprintf("%s-%d", name, n), fusegate.Pause))
		}
		add(fusegate.Object("v1", "Pod", "tenant-a", fmt.Sprintf("evict-%d, labels: {app: evicted}", n), strings.Replace(fusegate.Pause, "spec: {", "spec: {nodeName: node-1, ", 1)))
		add(fusegate.Object(rbacV1, "ClusterRole", "", fmt.Sprintf("victim-%d", n), "rules: []"))
		add(strings.Replace(replicaSet(fmt.Sprintf("victim-%d", n)), "replicas: 1", "replicas: 0", 1))
		for _, name := range []string{"approve", "fail"} {
			add(fmt.Sprintf("{apiVersion: certificates.k8s.io/v1, metadata: {name: %s-%d}, %s}\n", name, n, csrBody))
		}
	}
	return b.String()
}
