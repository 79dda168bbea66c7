package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// versionPattern is that of a release, or of a candidate for one.
var versionPattern = regexp.MustCompile(`^v1\.\d+\.\d+(-[a-z0-9.]+)?$`)

// staging matches what k8s.io/kubernetes replaces by folders of its own.
var staging = regexp.MustCompile(`(?m)^\s*(?:replace\s+)?(k8s\.io/\S+) => \./staging/`)

// versionBuilder makes a module that requires Kubernetes at a version, and a
// builder that builds it from there. The module lies in the cache, beside the
// binaries. What Kubernetes requires is what that release requires; checksums
// come from the checksum database that the go command is told to ask.
func versionBuilder(ctx context.Context, pinned *builder, version string) (*builder, error) {
	if !versionPattern.MatchString(version) {
		return nil, fmt.Errorf("%s is %q: want one such as v1.35.2", versionEnv, version)
	}
	dir, err := folder(version)
	if err != nil {
		return nil, err
	}
	b := &builder{version: version, dir: dir, modules: map[string]module{}}
	at := filepath.Join(dir, "module")
	mod, sum, err := readModule(at)
	if errors.Is(err, os.ErrNotExist) {
		if err := makeModule(ctx, at, version); err != nil {
			return nil, err
		}
		mod, sum, err = readModule(at)
	}
	if err != nil {
		return nil, err
	}
	b.modules[kubernetes] = newModule(at, mod, sum, ldflags(version))
	b.modules[kubelets] = pinned.modules[kubelets]
	return b, nil
}

// makeModule writes one that pins a version. It appears complete or not at all.
func makeModule(ctx context.Context, at, version string) (err error) {
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return fmt.Errorf("creating the cache: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(at), ".module-")
	if err != nil {
		return fmt.Errorf("creating a module: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()

	upstream, err := upstreamModule(ctx, tmp, version)
	if err != nil {
		return fmt.Errorf("finding Kubernetes %s: %w", version, err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "go.mod"), generated(upstream, version), 0o644); err != nil {
		return fmt.Errorf("writing go.mod: %w", err)
	}
	// tidy would ask for what upstream's tests import; listing asks for what
	// the binaries are built from.
	args := []string{"list", "-mod=mod", "-deps"}
	for _, t := range targets {
		if strings.HasPrefix(t.pkg, "k8s.io/kubernetes/") {
			args = append(args, t.pkg)
		}
	}
	b := &builder{modules: map[string]module{kubernetes: {dir: tmp}}}
	cmd := b.command(ctx, kubernetes, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("resolving Kubernetes %s: %w", version, err)
	}
	return os.Rename(tmp, at)
}

// upstreamModule downloads Kubernetes and returns its go.mod.
func upstreamModule(ctx context.Context, dir, version string) ([]byte, error) {
	b := &builder{modules: map[string]module{kubernetes: {dir: dir}}}
	cmd := b.command(ctx, kubernetes, "mod", "download", "-json", "k8s.io/kubernetes@"+version)
	out, err := cmd.Output()
	var answer struct{ GoMod, Error string }
	if parseErr := json.Unmarshal(out, &answer); parseErr != nil {
		return nil, errors.Join(err, parseErr)
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	return os.ReadFile(answer.GoMod)
}

// generated is a go.mod for a version, given that of k8s.io/kubernetes. Its
// staging modules are replaced by those that were published with it: v0.35.2
// for v1.35.2.
func generated(upstream []byte, version string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "module controlplane\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes %s\n\nreplace (\n", version)
	for _, m := range staging.FindAllSubmatch(upstream, -1) {
		fmt.Fprintf(&out, "\t%s => %[1]s v0.%s\n", m[1], strings.TrimPrefix(version, "v1."))
	}
	fmt.Fprint(&out, ")\n")
	return out.Bytes()
}
