package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var required = regexp.MustCompile(`(?m)^\s*(?:require\s+)?(\S+\.\S+/?\S*) (v\S+)`)

// versionsIn reads the requirements of a go.mod.
func versionsIn(t *testing.T, file string) map[string]string {
	t.Helper()
	mod, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(mod), "\nreplace (")
	out := map[string]string{}
	for _, m := range required.FindAllStringSubmatch(text, -1) {
		out[m[1]] = m[2]
	}
	return out
}

// TestSharedVersions checks that the control plane is built from the versions of
// the main module where both require a module, so that what they share is
// compiled once: a demo without caches would take minutes more.
func TestSharedVersions(t *testing.T) {
	ours := versionsIn(t, "../../go.mod")
	for m, v := range versionsIn(t, "go.mod") {
		if want := ours[m]; want != "" && v != want {
			t.Errorf("%s: got %s, want %s as in the main module: go get -C hack/controlplane %s@%[3]s", m, v, want, m)
		}
	}
}

func TestGenerated(t *testing.T) {
	const upstream = "module k8s.io/kubernetes\n\nrequire k8s.io/api v0.0.0\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n\nreplace k8s.io/kms => ./staging/src/k8s.io/kms\n"
	const want = "module controlplane\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.35.2\n\nreplace (\n\tk8s.io/api => k8s.io/api v0.35.2\n\tk8s.io/kms => k8s.io/kms v0.35.2\n)\n"
	if got := string(generated([]byte(upstream), "v1.35.2")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestVersionRefused checks that what is no version makes no folder.
func TestVersionRefused(t *testing.T) {
	cache := t.TempDir()
	t.Setenv(cacheEnv, cache)
	for _, version := range []string{"1.35.2", "v1.35", "v1.35.2/../..", "latest"} {
		if _, err := run(t.Context(), version, nil); err == nil {
			t.Errorf("%s: got no error", version)
		}
	}
	if left, err := os.ReadDir(cache); err != nil || len(left) > 0 {
		t.Errorf("got %v (%v), want an empty cache", left, err)
	}
}

func TestNamed(t *testing.T) {
	if got, err := named(nil); err != nil || len(got) != len(targets) {
		t.Errorf("without names: got %v, %v, want all", got, err)
	}
	got, err := named([]string{"etcd", "kube-apiserver"})
	if err != nil || len(got) != 2 || got[0].name != "kube-apiserver" || got[1].name != "etcd" {
		t.Errorf("got %v, %v, want both in the order of building", got, err)
	}
	if _, err := named([]string{"etcd", "kubelet"}); err == nil {
		t.Error("an unknown name: got no error")
	}
}

func TestEstimate(t *testing.T) {
	r := newRemaining()
	a, b := target{name: "a"}, target{name: "b"}
	r.add(a, []string{"x", "y"})
	r.add(b, []string{"y", "z", "w"})
	if got, want := r.estimate(), "; at most 4 to go"; got != want {
		t.Errorf("at first: got %q, want %q", got, want)
	}
	r.compiled("x")
	r.finish(a)
	if got, want := r.estimate(), "; at most 2 to go"; got != want {
		t.Errorf("after one: got %q, want %q", got, want)
	}
	r.done = enough
	if got, want := r.estimate(), "; at most 2 to go, about 0 min"; got != want {
		t.Errorf("with a pace: got %q, want %q", got, want)
	}
}
