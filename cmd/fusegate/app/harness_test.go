package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/controlplane"
)

// asBinary makes the test binary behave as fusegate itself, so that the tests
// run the real command in processes of its own.
const asBinary = "FUSEGATE_TEST_AS_BINARY"

// tethered is the value of asBinary for processes that must not outlive the
// test: they end when their standard input does.
const tethered = "tethered"

// patience bounds every wait for a condition. It is long since a loaded
// machine is slow; a test that passes never waits that long.
const patience = 90 * time.Second

// apiServer is a user that the API server takes for itself.
const apiServer = "system:apiserver"

func TestMain(m *testing.M) {
	switch os.Getenv(asBinary) {
	case tethered:
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1) // the test process has died
		}()
		os.Exit(Main(os.Args[1:]))
	case "":
		os.Exit(runTests(m))
	default:
		os.Exit(Main(os.Args[1:]))
	}
}

func runTests(m *testing.M) int {
	code := m.Run()
	if c := world.cluster; c != nil {
		if err := c.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
			code = 1
		}
	}
	return code
}

// world holds the control plane that the tests of this package share.
var world struct {
	once    sync.Once
	cluster *testCluster
	err     error
}

// testCluster is a control plane on which Fusegate is installed, and the
// manager that it answers with.
type testCluster struct {
	cp      *controlplane.ControlPlane
	dir     string
	port    int
	manager *testManager
}

// start returns the shared cluster, with a manager that is ready.
func start(t *testing.T) *testCluster {
	t.Helper()
	world.once.Do(func() { world.cluster, world.err = newCluster() })
	if world.err != nil {
		t.Fatal(world.err)
	}
	c := world.cluster
	if c.manager == nil {
		c.manager = c.run(t, "first", c.port)
	}
	c.manager.awaitReady(t)
	return c
}

func newCluster() (*testCluster, error) {
	cp, err := controlplane.Start(context.Background(), controlplane.Options{
		ControllerManager: true,
		Standby:           1,
		Users:             []controlplane.User{{Name: apiServer, Groups: []string{"system:masters"}}},
	})
	if err != nil {
		return nil, err
	}
	c := &testCluster{cp: cp, dir: filepath.Join(cp.Dir(), "fusegate")}
	if err := c.install(); err != nil {
		return nil, errors.Join(err, cp.Stop())
	}
	return c, nil
}

func (c *testCluster) install() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	c.port = port
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"tls.crt": crt, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(c.dir, name), data, 0o600); err != nil {
			return err
		}
	}
	out, err := command("install", "--kubeconfig", c.cp.Kubeconfig(controlplane.Admin),
		"--webhook-url", fmt.Sprintf("https://127.0.0.1:%d%s", port, webhook.Path),
		"--ca-file", filepath.Join(c.dir, "tls.crt")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("installing: %w: %s", err, out)
	}
	return nil
}

func (c *testCluster) stop() error {
	var err error
	if c.manager != nil {
		err = c.manager.end(syscall.SIGTERM)
	}
	return errors.Join(err, c.cp.Stop())
}

// command is this test binary as fusegate.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asBinary+"=1")
	return cmd
}

// testManager is one process of fusegate serve.
type testManager struct {
	name    string
	cmd     *exec.Cmd
	log     *logBuffer
	tether  io.WriteCloser
	health  string
	metrics string
}

// run starts a manager of both roles at a port of the webhook. It ends with the
// test at the latest if the test does not hand it to the cluster.
func (c *testCluster) run(t *testing.T, name string, port int) *testManager {
	t.Helper()
	return c.serve(t, name, "--kubeconfig", c.cp.Kubeconfig(controlplane.Admin),
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--cert-dir", c.dir)
}

// serve starts fusegate serve as a pod with this name.
func (c *testCluster) serve(t *testing.T, name string, args ...string) *testManager {
	t.Helper()
	m := &testManager{name: name, log: &logBuffer{}}
	for _, address := range []*string{&m.health, &m.metrics} {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	m.cmd = command(append([]string{
		"serve", "--pod-name", name, "--log-format", "console",
		"--health-listen", m.health, "--metrics-listen", m.metrics,
	}, args...)...)
	m.cmd.Env = append(os.Environ(), asBinary+"="+tethered)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	var err error
	if m.tether, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return m
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// end stops the manager with a signal and waits for it. That it was told to stop
// is nothing for it to log as an error.
func (m *testManager) end(sig os.Signal) error {
	before := len(m.log.String())
	if err := m.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("stopping manager %s: %w", m.name, err)
	}
	err := m.cmd.Wait()
	if sig == syscall.SIGKILL {
		return nil
	}
	if err != nil {
		return fmt.Errorf("manager %s did not end well: %w\n%s", m.name, err, m.log)
	}
	for line := range strings.Lines(m.log.String()[before:]) {
		if strings.Contains(line, "\tERROR\t") && strings.Contains(line, context.Canceled.Error()) {
			return fmt.Errorf("manager %s ended well and logged an error all the same: %s", m.name, line)
		}
	}
	return nil
}

func (m *testManager) awaitReady(t *testing.T) {
	t.Helper()
	await(t, "manager "+m.name+" ready", func() error {
		code, body, err := fetch("http://" + m.health + "/readyz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d: %s", code, body)
		}
		return err
	})
}

func fetch(url string) (int, string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(body)), err
}

// reviews counts the admission requests that have reached the manager from an
// API server, whatever they were answered.
func (m *testManager) reviews(t *testing.T) int {
	t.Helper()
	_, body, err := fetch("http://" + m.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, metric := range families["fusegate_admission_reviews_total"].GetMetric() {
		if by := metric.GetLabel()[0].GetValue(); by != "probe" && by != "canary" {
			total += metric.GetCounter().GetValue()
		}
	}
	return int(total)
}

// await returns once try returns nil.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			log := ""
			if c := world.cluster; c != nil && c.manager != nil {
				log = c.manager.log.String()
			}
			t.Fatalf("waiting for %s: %v\n%s", what, err, log)
		case <-tick.C:
		}
	}
}

// patch sends a merge patch as a user, without the reads that kubectl makes.
func (c *testCluster) patch(t *testing.T, user, path, body string) error {
	t.Helper()
	config := c.cp.Config(user)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, config.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/merge-patch+json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return nil
}

// kubectl runs kubectl as a user and returns both its outputs, and whether it
// succeeded.
func (c *testCluster) kubectl(t *testing.T, user, stdin string, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	stdout, stderr, err := c.cp.Kubectl(t.Context(), user, stdin, args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout, stderr, err == nil
}

// must runs kubectl as admin and fails the test if it fails.
func (c *testCluster) must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	stdout, stderr, ok := c.kubectl(t, controlplane.Admin, stdin, args...)
	if !ok {
		t.Fatalf("kubectl %s: %s", strings.Join(args, " "), stderr)
	}
	return stdout
}

// dryCreate creates object without storing it and returns what kubectl printed
// to standard error, which is empty if nobody minds.
func (c *testCluster) dryCreate(t *testing.T, object string) string {
	t.Helper()
	_, stderr, _ := c.kubectl(t, controlplane.Admin, object, "create", "--dry-run=server", "-f", "-")
	return strings.TrimSpace(stderr)
}

// awaitCreate returns once creating object makes kubectl print want.
func (c *testCluster) awaitCreate(t *testing.T, object, want string) {
	t.Helper()
	await(t, fmt.Sprintf("the answer %q", want), func() error {
		if got := c.dryCreate(t, object); got != want {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
