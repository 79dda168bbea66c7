package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestKubernetesVersion(t *testing.T) {
	for name, tc := range map[string]struct {
		mod  string
		want string
	}{
		"Block":    {"module m\n\nrequire (\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n", "v1.36.3"},
		"Single":   {"module m\n\nrequire k8s.io/kubernetes v1.37.0-rc.1\n", "v1.37.0-rc.1"},
		"ToolOnly": {"module m\n\ntool k8s.io/kubernetes/cmd/kubectl\n", ""},
		"Comment":  {"module m\n\n// k8s.io/kubernetes v1.36.3 is needed\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := kubernetesVersion([]byte(tc.mod))
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestLdflags(t *testing.T) {
	got := ldflags("v1.36.3")
	for _, want := range []string{
		"-X k8s.io/component-base/version.gitVersion=v1.36.3",
		"-X k8s.io/component-base/version.gitMajor=1 ",
		"-X k8s.io/client-go/pkg/version.gitMinor=36",
	} {
		if !strings.Contains(got+" ", want) {
			t.Errorf("got %q, want it to contain %q", got, want)
		}
	}
}

// TestStale checks what a stamp is worth.
func TestStale(t *testing.T) {
	one := []target{{name: "etcd", module: kubernetes}}
	for name, tc := range map[string]struct {
		reason string
		binary bool
		stamp  string
		want   int
	}{
		"UpToDate":  {"Both are there and agree.", true, "now", 0},
		"NoStamp":   {"A build was interrupted.", true, "", 1},
		"OldStamp":  {"go.mod or the compiler changed.", true, "then", 1},
		"NoBinary":  {"Somebody removed it.", false, "now", 1},
		"FirstTime": {"There is nothing.", false, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := &builder{dir: t.TempDir(), modules: map[string]module{kubernetes: {stamp: "now"}}}
			if tc.stamp != "" {
				write(t, b.stampFile(one[0]), tc.stamp)
			}
			if tc.binary {
				write(t, filepath.Join(b.dir, "etcd"), "")
			}
			if got := b.stale(one); len(got) != tc.want {
				t.Errorf("%s: got %v, want %d stale", tc.reason, got, tc.want)
			}
		})
	}
}

// TestAssets checks that KUBEBUILDER_ASSETS is believed only where it has a
// binary.
func TestAssets(t *testing.T) {
	dir := t.TempDir()
	if got := notIn("", targets); len(got) != len(targets) {
		t.Errorf("without a folder: got %v, want all", got)
	}
	for _, target := range targets[1:] {
		write(t, filepath.Join(dir, target.name), "")
	}
	if got := notIn(dir, targets); len(got) != 1 || got[0] != targets[0] {
		t.Errorf("got %v, want %v only", got, targets[0])
	}
	write(t, filepath.Join(dir, targets[0].name), "")
	t.Setenv(assetsEnv, dir)
	if got, err := run(t.Context(), "", nil); got != dir || err != nil {
		t.Errorf("with all of them: got %q, %v, want %q", got, err, dir)
	}
}

// TestLock checks that the second comer waits for the first.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(path)
	if err != nil {
		t.Fatal(err)
	}
	var released atomic.Bool
	second := make(chan error)
	go func() {
		unlock, err := lock(path)
		if err == nil {
			defer unlock()
			if !released.Load() {
				err = fmt.Errorf("both hold the lock")
			}
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("the second did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	released.Store(true)
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// TestProgress feeds go build's output in awkward portions.
func TestProgress(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "progress")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := newProgress(f, "etcd", newRemaining())
	const output = "internal/abi\ngo.etcd.io/etcd/server/v3\n# example.org/broken\nbroken.go:3:5: undefined: x\nunicode/utf8"
	for _, portion := range strings.SplitAfter(output, "e") {
		if n, err := p.Write([]byte(portion)); n != len(portion) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	p.close(false)
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	const want = "# example.org/broken\nbroken.go:3:5: undefined: x\netcd: 3 packages compiled, 0 s, failed\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}
