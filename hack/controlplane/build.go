package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// target is one binary: its file name, the main package it comes from, and the
// folder of the module that pins it.
type target struct{ name, pkg, module string }

const (
	// kubernetes is the module beside this file.
	kubernetes = "."
	// kubelets pins kwok alone, so that what kwok requires does not change
	// what Kubernetes is built from.
	kubelets = "kwok"
)

// targets is in the order of building. The API server comes first because it
// has most packages, so that its progress tells how long the rest may take.
var targets = []target{
	{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", kubernetes},
	{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", kubernetes},
	{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", kubernetes},
	{"kubectl", "k8s.io/kubernetes/cmd/kubectl", kubernetes},
	{"etcd", "go.etcd.io/etcd/server/v3", kubernetes},
	{"kwok", "sigs.k8s.io/kwok/cmd/kwok", kubelets},
}

// builder knows where the binaries go and how they are made.
type builder struct {
	version string            // of Kubernetes
	dir     string            // of the binaries
	modules map[string]module // by the names in targets
}

// module is what its binaries have in common.
type module struct {
	dir     string // of go.mod
	ldflags string
	stamp   string // what the stamp of an up-to-date binary contains
}

// pinnedBuilder reads the modules in the working directory and below.
func pinnedBuilder() (*builder, error) {
	mod, sum, err := readModule(kubernetes)
	if err != nil {
		return nil, err
	}
	kwokMod, kwokSum, err := readModule(kubelets)
	if err != nil {
		return nil, err
	}
	version, err := kubernetesVersion(mod)
	if err != nil {
		return nil, err
	}
	dir, err := folder(version)
	if err != nil {
		return nil, err
	}
	return &builder{
		version: version, dir: dir,
		modules: map[string]module{
			kubernetes: newModule(kubernetes, mod, sum, ldflags(version)),
			kubelets:   newModule(kubelets, kwokMod, kwokSum, "-s -w"),
		},
	}, nil
}

func readModule(dir string) (mod, sum []byte, err error) {
	if mod, err = os.ReadFile(filepath.Join(dir, "go.mod")); err != nil {
		return nil, nil, fmt.Errorf("reading go.mod (run this as: go run -C hack/controlplane .): %w", err)
	}
	if sum, err = os.ReadFile(filepath.Join(dir, "go.sum")); err != nil {
		return nil, nil, fmt.Errorf("reading go.sum: %w", err)
	}
	return mod, sum, nil
}

func newModule(dir string, mod, sum []byte, flags string) module {
	stamp := digest(mod, sum, []byte(runtime.Version()), []byte(flags), []byte(strings.Join(buildFlags, " ")))
	return module{dir: dir, ldflags: flags, stamp: stamp}
}

// buildFlags and CGO_ENABLED are those of make demo: where go.mod pins the same
// version of a module as the main one does (versions_test.go sees to that), a
// package is then compiled once for Fusegate and the control plane. The linker
// would leave DWARF out, so that the compiler need not make it.
var buildFlags = []string{"-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false"}

// buildEnv is added to the environment. The compiler collects its garbage half as
// often as by itself, unless somebody said how often: that and DWARF are a fifth of
// the time it takes.
func buildEnv() []string {
	env := []string{"CGO_ENABLED=0"}
	if os.Getenv("GOGC") == "" {
		env = append(env, "GOGC=200")
	}
	return env
}

// folder is where the binaries of a version go.
func folder(version string) (string, error) {
	parent, err := cacheParent()
	return filepath.Join(parent, fmt.Sprintf("%s-%s-%s", version, runtime.GOOS, runtime.GOARCH)), err
}

// cacheParent is the folder that holds one folder per version.
// test/controlplane looks in the same place.
func cacheParent() (string, error) {
	if dir := os.Getenv(cacheEnv); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache directory (set %s instead): %w", cacheEnv, err)
	}
	return filepath.Join(cache, "fusegate", "controlplane"), nil
}

var requirement = regexp.MustCompile(`(?m)^\s*(?:require\s+)?k8s\.io/kubernetes (v\d+\.\d+\.\S+)`)

// kubernetesVersion reads the pinned version from go.mod, the only place that
// names it for the builder.
func kubernetesVersion(mod []byte) (string, error) {
	m := requirement.FindSubmatch(mod)
	if m == nil {
		return "", errors.New("go.mod requires no version of k8s.io/kubernetes")
	}
	return string(m[1]), nil
}

// ldflags stamps the version that /version and "kubectl version" report.
// Without it a binary built from modules calls itself v0.0.0-master, which the
// server's own compatibility checks and every client that gates on the version
// would take at its word.
func ldflags(version string) string {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	flags := []string{"-s", "-w"}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags,
			fmt.Sprintf("-X %s.gitVersion=%s", pkg, version),
			fmt.Sprintf("-X %s.gitMajor=%s", pkg, major),
			fmt.Sprintf("-X %s.gitMinor=%s", pkg, minor))
	}
	return strings.Join(flags, " ")
}

// digest hashes its parts with their lengths, so that no two lists of parts
// run into each other.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d\n", len(p))
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// stale returns the targets whose binary is missing or was built from
// something else than what the module says now.
func (b *builder) stale(of []target) []target {
	var out []target
	for _, t := range of {
		got, err := os.ReadFile(b.stampFile(t))
		if err != nil || string(got) != b.modules[t.module].stamp || !executable(filepath.Join(b.dir, t.name)) {
			out = append(out, t)
		}
	}
	return out
}

func (b *builder) stampFile(t target) string {
	return filepath.Join(b.dir, "."+t.name+".stamp")
}

// build compiles one target to a temporary name and renames it into place, so
// that a running test never sees half a binary and an interrupted build leaves
// the former one. The stamp goes away first and comes back last.
func (b *builder) build(ctx context.Context, t target, left *remaining) (err error) {
	if err := os.Remove(b.stampFile(t)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the stamp of %s: %w", t.name, err)
	}
	tmp := filepath.Join(b.dir, fmt.Sprintf(".%s.%d.tmp", t.name, os.Getpid()))
	defer func() { _ = os.Remove(tmp) }()

	if err := b.compile(ctx, t, left, tmp); err != nil {
		return fmt.Errorf("building %s: %w", t.name, err)
	}
	if err := os.Rename(tmp, filepath.Join(b.dir, t.name)); err != nil {
		return fmt.Errorf("installing %s: %w", t.name, err)
	}
	if err := os.WriteFile(b.stampFile(t), []byte(b.modules[t.module].stamp), 0o644); err != nil {
		return fmt.Errorf("writing the stamp of %s: %w", t.name, err)
	}
	return nil
}

// compile runs "go build" and reports its progress until it ends.
func (b *builder) compile(ctx context.Context, t target, left *remaining, out string) error {
	p := newProgress(os.Stderr, t.name, left)
	args := slices.Concat([]string{"build", "-v", "-mod=readonly"}, buildFlags,
		[]string{"-ldflags", b.modules[t.module].ldflags, "-o", out, t.pkg})
	cmd := b.command(ctx, t.module, args...)
	cmd.Stdout, cmd.Stderr = p, p
	err := cmd.Run()
	p.close(err == nil)
	left.finish(t)
	return err
}

// count lists the packages that the targets are made of.
func (b *builder) count(ctx context.Context, of []target) (*remaining, error) {
	left := newRemaining()
	for _, t := range of {
		cmd := b.command(ctx, t.module, "list", "-deps", t.pkg)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("listing what %s is made of: %w", t.name, err)
		}
		left.add(t, strings.Fields(string(out)))
	}
	return left, nil
}

// command is one of go in a module. An interrupt lets go remove its own
// temporary files.
func (b *builder) command(ctx context.Context, module string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = b.modules[module].dir, append(os.Environ(), buildEnv()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}
