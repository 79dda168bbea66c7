package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/fusegate/fusegate/cmd/fusegate/app"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/test/controlplane"
)

var update = flag.Bool("update", false, "write the golden files")

// The names under which the test binary behaves as the programs of these names.
const (
	demoName     = "demo"
	fusegateName = "fusegate"
)

// TestMain lets the test binary be the demo, and the fusegate that it shows.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case demoName:
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1) // the test process has died
		}()
		os.Exit(run(os.Args[1:]))
	case fusegateName:
		os.Exit(app.MainTimed(os.Args[1:], timing.Timings{Lull: 100 * time.Millisecond, Canary: time.Second}))
	}
	os.Exit(m.Run())
}

// patience bounds every wait for a condition.
const patience = 90 * time.Second

// demoRun is a process of the demo. All its temporary files are in dir.
type demoRun struct {
	cmd *exec.Cmd
	out *output
	dir string
}

func startDemo(t *testing.T, env []string, args ...string) demoRun {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{demoName, fusegateName} {
		if err := os.Symlink(os.Args[0], filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	d := demoRun{out: &output{}, dir: t.TempDir()}
	d.cmd = exec.Command(filepath.Join(bin, demoName), append([]string{"-binary", filepath.Join(bin, fusegateName)}, args...)...)
	d.cmd.Env = append(os.Environ(), append(env, "TMPDIR="+d.dir)...)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if _, err := d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// output is what a process prints, and can be read while it does.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await returns once the demo has printed the text.
func (d demoRun) await(t *testing.T, text string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return strings.Contains(d.out.String(), text), nil
	})
	if err != nil {
		t.Fatalf("waiting for the demo to print %q: %v: %s", text, err, d.out)
	}
}

// end waits for the exit code and checks that nothing is left.
func (d demoRun) end(t *testing.T, want int) {
	t.Helper()
	err := d.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := d.cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("exit code: got %d, want %d\n%s", got, want, d.out)
	}
	left, err := os.ReadDir(d.dir)
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v behind (%v)", left, err)
	}
}

// TestDemo compares what the demo prints, looks around while it is kept, and
// ends it as Ctrl-C does. Settings of the environment must not reach it.
func TestDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t, []string{"FUSEGATE_NAMESPACE=elsewhere", "FUSEGATE_CONFIG=/none"}, "-keep")
	d.await(t, serveLog+" there.\n")
	golden(t, "testdata/demo.txt", masked(d.out.String()))

	path, err := controlplane.KubectlPath()
	if err != nil {
		t.Fatal(err)
	}
	kubectl := exec.Command(path, "get", "constraints", "--output=name")
	kubectl.Env = []string{"HOME=" + t.TempDir(), "KUBECONFIG=" + regexp.MustCompile(`export KUBECONFIG=(.*)`).FindStringSubmatch(d.out.String())[1]}
	names, err := kubectl.CombinedOutput()
	if err != nil || strings.Count(string(names), "\n") != len(demoTemplates) {
		t.Errorf("with the printed kubeconfig: got %s (%v), want the constraints", names, err)
	}
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	d.end(t, 0)
}

// volatile is what differs from run to run, and what stands for it.
var volatile = []struct {
	pattern *regexp.Regexp
	mask    string
}{
	{regexp.MustCompile(`[^\s=]+/fusegate-controlplane-\d+`), "DIR"},
	{regexp.MustCompile(`(127\.0\.0\.1):\d+`), "$1:PORT"},
	{regexp.MustCompile(`after [0-9.]+ s`), "after N s"},
	{regexp.MustCompile(`took \d+ s`), "took N s"},
	// Whether audit has been there by then is a matter of a second.
	{regexp.MustCompile(`(?m)(warn|deny|dryrun)( +)0( +)(True|False)`), "$1$2 $3$4"},
	{regexp.MustCompile(`(?m)(enforcement-action|warn|deny|dryrun)( +)(True|False)( +)\d+s$`), "$1$2$3${4}AGE"},
	{regexp.MustCompile(`kill \d+`), "kill PID"},
	{regexp.MustCompile(`export PATH=\S+:\S+:\$PATH`), "export PATH=KUBECTL:FUSEGATE:$$PATH"},
}

func masked(text string) string {
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.mask)
	}
	return text
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s, which -update writes (-want +got):\n%s", file, diff)
	}
}

func TestDemoInterrupted(t *testing.T) {
	// Where these tests run under nohup, their children would ignore SIGHUP as
	// well; a signal that is handled here is not ignored there.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(handled) }) // after the tests below
	for name, tc := range map[string]struct {
		reason string
		signal os.Signal
		after  string
	}{
		"at the start":    {reason: "what was started is stopped", signal: syscall.SIGTERM, after: "etcd ready"},
		"while it plays":  {reason: "serve is stopped too", signal: os.Interrupt, after: "# Policies"},
		"terminal closed": {reason: "it is an end like any other", signal: syscall.SIGHUP, after: "Starting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(t, nil)
			d.await(t, tc.after)
			if err := d.cmd.Process.Signal(tc.signal); err != nil {
				t.Fatal(err)
			}
			d.end(t, 1)
			if want := "Error: the demo was interrupted; everything is stopped and removed\n"; !strings.HasSuffix(d.out.String(), want) {
				t.Errorf("%s: got %s, want the last line %q", tc.reason, d.out, want)
			}
			if strings.Contains(d.out.String(), "kube-controller-manager") {
				t.Errorf("got %s, want kube-controller-manager with -keep only", d.out)
			}
		})
	}
}

func TestDemoWithoutBinaries(t *testing.T) {
	d := startDemo(t, []string{"KUBEBUILDER_ASSETS=", "FUSEGATE_CONTROLPLANE_CACHE=" + t.TempDir()})
	d.end(t, 1)
	if want := "run `make controlplane` to build them"; !strings.Contains(d.out.String(), want) {
		t.Errorf("got %s, want %q in it", d.out, want)
	}
}
