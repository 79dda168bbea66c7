package fusegate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// APIServer is a user that an API server takes for itself.
const APIServer = "system:apiserver"

// Namespace is where Fusegate is installed.
const Namespace = "fusegate-system"

// Cluster is a control plane with Fusegate, or for it.
type Cluster struct {
	CP *controlplane.ControlPlane
	// Dir holds tls.crt and tls.key for 127.0.0.1, and Port is one for the
	// webhook there.
	Dir  string
	Port int
	// Manager is who answers the webhook, nil if there is nobody. Tests that
	// replace it leave a ready one behind.
	Manager *Manager

	clients sync.Map // of *client, by user
}

// Bare starts a control plane without Fusegate, which ends with the test, and
// makes a serving certificate for its webhook.
func Bare(t testing.TB) *Cluster {
	t.Helper()
	return On(t, env.Start(t, controlplane.Options{ControllerManager: true}))
}

// On makes a cluster of a control plane.
func On(t testing.TB, cp *controlplane.ControlPlane) *Cluster {
	t.Helper()
	c := &Cluster{CP: cp, Dir: t.TempDir(), Port: env.FreePort(t)}
	if err := c.certify(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Cluster) certify() error {
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(c.Dir, "tls.crt"), crt, 0o600),
		os.WriteFile(filepath.Join(c.Dir, "tls.key"), key, 0o600))
}

// shared is a cluster of Start.
type shared struct {
	cluster *Cluster
	plane   env.Shared
	err     error
}

// pool are the clusters of Start. There are as many as tests run at once, and two
// at most: those that run in turn have one.
var pool = struct {
	places    chan struct{}
	mu        sync.Mutex // guards what follows
	all, free []*shared
}{places: make(chan struct{}, 2)}

// take returns a cluster for one test alone, until it ends.
func take(t testing.TB) *shared {
	t.Helper()
	pool.places <- struct{}{}
	pool.mu.Lock()
	defer pool.mu.Unlock()
	s := &shared{}
	if n := len(pool.free); n > 0 {
		s, pool.free = pool.free[n-1], pool.free[:n-1]
	} else {
		pool.all = append(pool.all, s)
	}
	t.Cleanup(func() {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		pool.free = append(pool.free, s)
		<-pool.places
	})
	return s
}

// start starts the cluster, unless it runs.
func (s *shared) start(t testing.TB) {
	t.Helper()
	s.plane.Options = controlplane.Options{
		ControllerManager: true, Standby: 1,
		Users: []controlplane.User{{Name: APIServer, Groups: []string{"system:masters"}}},
	}
	cp := s.plane.Get(t)
	if s.cluster != nil || s.err != nil {
		return
	}
	s.cluster = &Cluster{CP: cp, Dir: filepath.Join(cp.Dir(), "fusegate"), Port: env.FreePort(t)}
	s.err = errors.Join(os.Mkdir(s.cluster.Dir, 0o700), s.cluster.certify())
	if s.err != nil {
		return
	}
	if out, err := Command(s.cluster.Outside()...).CombinedOutput(); err != nil {
		s.err = fmt.Errorf("installing: %w: %s", err, out)
	}
}

// Start returns a cluster on which Fusegate is installed, with a manager of both
// roles that is ready. It is the test's alone until that ends; the next one gets
// it then, with what the test has left behind. Tests that run at the same time
// have one each, and wait for it if there are more than two of them.
func Start(t testing.TB) *Cluster {
	t.Helper()
	s := take(t)
	s.start(t)
	c := s.cluster
	if s.err != nil || c == nil {
		t.Fatal("there is no shared cluster:", s.err)
	}
	if c.Manager == nil || c.Manager.Ended() {
		c.Manager = c.Run(t, "first", c.Port)
	}
	c.Manager.AwaitReady(t)
	m := c.Manager
	from := len(m.Log.String())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", m.Name, ending(m.Log.String()[from:]))
		}
	})
	return c
}

func stopShared() (err error) {
	for _, s := range pool.all {
		if c := s.cluster; c != nil && c.Manager != nil && !c.Manager.Ended() {
			err = errors.Join(err, c.Manager.End(syscall.SIGTERM))
		}
		err = errors.Join(err, s.plane.Stop())
	}
	return err
}

// Outside are the arguments that install for a webhook at the cluster's port.
func (c *Cluster) Outside(args ...string) []string {
	return append([]string{
		"install", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin),
		"--webhook-url", fmt.Sprintf("https://127.0.0.1:%d%s", c.Port, webhook.Path), "--ca-file", filepath.Join(c.Dir, "tls.crt"),
	}, args...)
}

// Install runs install with these arguments.
func (c *Cluster) Install(t testing.TB, args ...string) {
	t.Helper()
	args = append([]string{"install", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin)}, args...)
	if out, err := Command(args...).CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
}

// Run starts a manager of both roles at a port of the webhook.
func (c *Cluster) Run(t testing.TB, name string, port int) *Manager {
	t.Helper()
	return Serve(t, name, "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin),
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--cert-dir", c.Dir)
}

// Begin starts a manager of one role. The caller ends it.
func (c *Cluster) Begin(t testing.TB, role string, port int) *Manager {
	t.Helper()
	return Serve(t, role, "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin), "--roles", role,
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--cert-dir", c.Dir)
}

// Role starts a manager of one role, which ends with the test.
func (c *Cluster) Role(t testing.TB, role string) *Manager {
	t.Helper()
	m := c.Begin(t, role, c.Port)
	m.EndWithTest(t)
	return m
}

// Split runs Fusegate as two processes: the webhook, which it starts in the place
// of the manager, and a leader, which the caller starts by what it returns.
func (c *Cluster) Split(t testing.TB) (leader func(name string, args ...string) *Manager) {
	t.Helper()
	if err := c.Manager.End(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.Manager = c.Begin(t, "webhook", c.Port)
	c.Manager.AwaitReady(t)
	return func(name string, args ...string) *Manager {
		m := Serve(t, name, append(args, "--roles=controller", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin))...)
		m.AwaitReady(t)
		return m
	}
}

// Account writes a kubeconfig of one of Fusegate's service accounts.
func (c *Cluster) Account(t testing.TB, account string) (file string) {
	t.Helper()
	config := c.CP.Config(controlplane.Admin)
	token := c.token(t, account)
	file = filepath.Join(c.Dir, account)
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"a": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "a"}},
		CurrentContext: "x",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// token is one of a service account of Fusegate's.
func (c *Cluster) token(t testing.TB, account string) string {
	t.Helper()
	request := env.Object("authentication.k8s.io/v1", "TokenRequest", "", "")
	if err := c.Client(t).SubResource("token").Create(t.Context(), env.Object("v1", "ServiceAccount", Namespace, account), request); err != nil {
		t.Fatal(err)
	}
	token, _, _ := unstructured.NestedString(request.Object, "status", "token")
	return token
}

// ServeAs starts fusegate serve with the identity of a service account. It ends
// with the test.
func (c *Cluster) ServeAs(t testing.TB, account string, args ...string) *Manager {
	t.Helper()
	m := Serve(t, account, append([]string{"--kubeconfig=" + c.Account(t, account)}, args...)...)
	m.EndWithTest(t)
	return m
}

// Kubectl runs kubectl as a user and returns both its outputs, and whether it
// succeeded. It is for what is about kubectl, and for what nobody waits for in a
// loop: each run of it costs a good part of a second.
func (c *Cluster) Kubectl(t testing.TB, user, stdin string, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	stdout, stderr, err := c.CP.Kubectl(context.WithoutCancel(t.Context()), user, stdin, args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout, stderr, err == nil
}

// Must runs kubectl as admin and fails the test if it fails.
func (c *Cluster) Must(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	stdout, stderr, ok := c.Kubectl(t, controlplane.Admin, stdin, args...)
	if !ok {
		t.Fatalf("kubectl %s: %s", strings.Join(args, " "), stderr)
	}
	return stdout
}

// Patch sends a merge patch as a user, without the reads that kubectl makes.
func (c *Cluster) Patch(t testing.TB, user, path, body string) error {
	t.Helper()
	cl, err := kubernetes.NewForConfig(c.config(user))
	if err != nil {
		t.Fatal(err)
	}
	return cl.RESTClient().Patch(types.MergePatchType).RequestURI(path).Body([]byte(body)).Do(t.Context()).Error()
}

// Client is an administrator's.
func (c *Cluster) Client(t testing.TB) client.WithWatch {
	t.Helper()
	return c.as(t, controlplane.Admin).WithWatch
}

// config is that of a user, without a limit to its pace.
func (c *Cluster) config(user string) *rest.Config {
	config := rest.CopyConfig(c.CP.Config(user))
	config.QPS = -1
	return config
}
