// Package fusegate runs Fusegate for tests: as processes, which are the test
// binary in another role, and installed on a control plane. Tests of packages that
// the command line is made of use test/env alone.
package fusegate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"

	"github.com/fusegate/fusegate/cmd/fusegate/app"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// asBinary makes the test binary behave as fusegate itself.
const asBinary = "FUSEGATE_TEST_AS_BINARY"

// timingsEnv holds the Timings of such a process, as JSON. Only Main reads it.
const timingsEnv = "FUSEGATE_TEST_TIMINGS"

// Main runs the tests of a package that calls it from TestMain, or fusegate in a
// process of theirs, and returns the code to exit with. The tests do not see what
// FUSEGATE_* variables say.
func Main(m *testing.M) int {
	if os.Getenv(asBinary) != "" {
		t, err := timings()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return app.MainTimed(os.Args[1:], t)
	}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "FUSEGATE_") && !strings.HasPrefix(name, "FUSEGATE_CONTROLPLANE_") {
			_ = os.Unsetenv(name)
		}
	}
	_ = os.Setenv("FUSEGATE_CONFIG", "") // there is none in the working folder either
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the shared cluster:", err)
		code = 1
	}
	return code
}

// Timings are those of the processes that tests start: short, so that a test waits
// for what happens and not for when it is looked for. What is about the values of
// production is asserted beside them, in pkg/timing.
var Timings = timing.Timings{
	LeaseDuration: 8 * time.Second, RenewDeadline: 6 * time.Second, RetryPeriod: 500 * time.Millisecond,
	Lull:          500 * time.Millisecond,
	PresenceRenew: time.Second, PresenceTimeout: 5 * time.Second,
	Survey:      500 * time.Millisecond,
	FaultDelay:  time.Second,
	Enforcement: 200 * time.Millisecond, EnforcementCheck: 2 * time.Second,
	Guard: time.Second, CatalogAge: time.Second, GuardRetry: 250 * time.Millisecond, GuardRetryMax: time.Second,
	Canary: time.Second, CanaryGrace: 3 * time.Second,
	Restrict:    4 * time.Second,
	AuditReport: 500 * time.Millisecond, AuditCompare: time.Second, AuditRetry: 250 * time.Millisecond, AuditRetryMax: 2 * time.Second,
	InventoryRetry: 500 * time.Millisecond, InventoryKinds: 250 * time.Millisecond, InventoryTell: 250 * time.Millisecond,
	CertificateRetry: 250 * time.Millisecond,
}

// timings are those that the process which started this one asks for.
func timings() (t timing.Timings, err error) {
	text := os.Getenv(timingsEnv)
	if text == "" {
		return t, nil
	}
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return t, fmt.Errorf("%s: %w", timingsEnv, err)
	}
	return t, nil
}

// Command is fusegate with these arguments.
func Command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	text, err := json.Marshal(Timings)
	if err != nil {
		panic(err) // durations are numbers
	}
	cmd.Env = append(os.Environ(), asBinary+"=1", timingsEnv+"="+string(text))
	return cmd
}

// Run runs a command and returns what it printed and its exit code.
func Run(t testing.TB, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd := Command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Manager is one process of fusegate serve.
type Manager struct {
	Name string
	Cmd  *exec.Cmd
	Log  *env.Log
	// Health and Metrics are the addresses at which it serves these.
	Health, Metrics string

	ended chan struct{} // closed when the process has ended, with err
	err   error
}

// Serve starts fusegate serve as a pod with this name. It does not outlive the
// test binary; a caller that wants it to end before calls End.
func Serve(t testing.TB, name string, args ...string) *Manager {
	t.Helper()
	m := &Manager{Name: name, Log: &env.Log{}}
	for _, address := range []*string{&m.Health, &m.Metrics} {
		*address = fmt.Sprintf("127.0.0.1:%d", env.FreePort(t))
	}
	m.Cmd = Command(append([]string{
		"serve", "--pod-name", name, "--log-format", "console",
		"--health-listen", m.Health, "--metrics-listen", m.Metrics,
	}, args...)...)
	m.Cmd.Stdout, m.Cmd.Stderr = m.Log, m.Log
	release, err := controlplane.Spawn(m.Cmd)
	if err != nil {
		t.Fatal(err)
	}
	m.ended = make(chan struct{})
	go func() {
		m.err = m.Cmd.Wait()
		release()
		close(m.ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", name, ending(m.Log.String()))
		}
	})
	return m
}

// ending is as much of a log as a failure prints.
func ending(log string) string {
	const most = 100_000
	return log[max(0, len(log)-most):]
}

// Wait waits for the process to end, and returns how it did.
func (m *Manager) Wait() error {
	<-m.ended
	return m.err
}

// Ended tells whether the process has ended.
func (m *Manager) Ended() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// End stops the manager with a signal and waits for it. That it was told to stop
// is nothing for it to log as an error.
func (m *Manager) End(sig os.Signal) error {
	before := len(m.Log.String())
	if err := m.Cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("stopping %s: %w", m.Name, err)
	}
	err := m.Wait()
	if sig == syscall.SIGKILL {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s did not end well: %w\n%s", m.Name, err, ending(m.Log.String()))
	}
	for line := range strings.Lines(m.Log.String()[before:]) {
		if strings.Contains(line, "\tERROR\t") && strings.Contains(line, context.Canceled.Error()) {
			return fmt.Errorf("%s ended well and logged an error all the same: %s", m.Name, line)
		}
	}
	return nil
}

// EndWithTest has the manager end in good order when the test does.
func (m *Manager) EndWithTest(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if m.Ended() {
			return
		}
		if err := m.End(os.Interrupt); err != nil {
			t.Error(err)
		}
	})
}

// Signal sends the process one.
func (m *Manager) Signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := m.Cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// AwaitReady returns once the manager says that it is ready.
func (m *Manager) AwaitReady(t testing.TB) {
	t.Helper()
	env.Await(t, m.Name+" to be ready", func() error {
		if m.Ended() {
			t.Fatalf("%s ended before it was ready: %v\n%s", m.Name, m.err, ending(m.Log.String()))
		}
		code, body, err := Fetch("http://" + m.Health + "/readyz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d: %s", code, body)
		}
		return err
	})
}

// AwaitLog returns once the manager has logged all of these texts.
func (m *Manager) AwaitLog(t testing.TB, texts ...string) {
	t.Helper()
	env.Await(t, fmt.Sprintf("%s to log %q", m.Name, texts), func() error {
		log := m.Log.String()
		for _, text := range texts {
			if !strings.Contains(log, text) {
				return fmt.Errorf("it lacks %q", text)
			}
		}
		return nil
	})
}

// Fetch gets an address.
func Fetch(url string) (code int, body string, err error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(text)), err
}

// Exposition is the text of the metrics.
func (m *Manager) Exposition(t testing.TB) string {
	t.Helper()
	_, body, err := Fetch("http://" + m.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return body + "\n"
}

// Families are the metrics by name.
func (m *Manager) Families(t testing.TB) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(m.Exposition(t)))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// Counter adds up the samples of a counter.
func (m *Manager) Counter(t testing.TB, name string) (total float64) {
	t.Helper()
	for _, metric := range m.Families(t)[name].GetMetric() {
		total += metric.GetCounter().GetValue()
	}
	return total
}

// Reviews counts the admission requests that have reached the manager from an
// API server, whatever they were answered.
func (m *Manager) Reviews(t testing.TB) int {
	t.Helper()
	total := 0.0
	for _, metric := range m.Families(t)["fusegate_admission_reviews_total"].GetMetric() {
		if by := metric.GetLabel()[0].GetValue(); by != "probe" && by != "canary" {
			total += metric.GetCounter().GetValue()
		}
	}
	return int(total)
}
