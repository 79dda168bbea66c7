package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/fusegate/fusegate/pkg/compiler"
	"github.com/fusegate/fusegate/pkg/rego"
)

const mib = 1 << 20

// TestMemoryOfManifests wants every container that is installed to plan for 80 % of
// its memory limit at most, with its compiler.
func TestMemoryOfManifests(t *testing.T) {
	text, stderr, code := fusegate(t, "", "manifests")
	if code != exitOK {
		t.Fatal(stderr)
	}
	containers := 0
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(text)), 4096)
	for {
		var d appsv1.Deployment
		err := documents.Decode(&d)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if d.Kind != "Deployment" {
			continue
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			containers++
			limit := c.Resources.Limits.Memory().Value()
			if limit == 0 {
				t.Errorf("%s, container %s: there is no memory limit", d.Name, c.Name)
				continue
			}
			planned(t, uint64(limit))
			if _, forCompiler := divide(uint64(limit)); forCompiler != compiler.DefaultMemory {
				t.Errorf("%s, container %s: the compiler has %d MiB of %d, want what documentation says", d.Name, c.Name, forCompiler/mib, limit/mib)
			}
		}
	}
	if containers != 2 {
		t.Errorf("%d containers were looked at, want those of webhook and controller", containers)
	}
}

func TestMemoryOfOtherLimits(t *testing.T) {
	for _, limit := range []uint64{160 * mib, 256 * mib, 512 * mib, 768 * mib, 1 << 30, 4 << 30, 64 << 30} {
		planned(t, limit)
	}
}

// planned wants the parts of a limit to be of use, and 80 % together at most.
func planned(t *testing.T, limit uint64) {
	t.Helper()
	own, forCompiler := divide(limit)
	heap := int64(own * float64(limit))
	if together := heap + forCompiler; together > int64(limit)*8/10 {
		t.Errorf("of %d MiB: %d for the process and %d for its compiler are %d %%, want 80 at most",
			limit/mib, heap/mib, forCompiler/mib, 100*together/int64(limit))
	}
	if heap < int64(limit)*4/10-1 || forCompiler < compiler.MinMemory {
		t.Errorf("of %d MiB: %d for the process and %d for its compiler", limit/mib, heap/mib, forCompiler/mib)
	}
}

// asFull makes the test binary a process that has filled its part of smallLimit with
// what it needs, and has its compiler try what takes all that it may have.
const asFull = "FUSEGATE_TEST_AS_FULL"

// smallLimit is the memory limit of a container, in bytes.
const smallLimit = 512 * mib

func full() int {
	own, forCompiler := divide(smallLimit)
	heap := int64(own * smallLimit)
	debug.SetMemoryLimit(heap)
	ballast := bytes.Repeat([]byte{1}, int(heap-64*mib))
	_ = os.Unsetenv(asFull)
	_ = os.Setenv(asBinary, "1") // for the compiler
	c := ownCompiler(forCompiler, logr.Discard())
	defer c.Close()
	for i := range 3 {
		var text strings.Builder
		text.WriteString("package bad\nviolation[{\"msg\": \"m\"}] { input.x }\na := [")
		for k := text.Len(); text.Len() < 3*mib/2; k++ {
			fmt.Fprintf(&text, "[%d,[%d]],", i, k)
		}
		text.WriteString("0]\n")
		err := c.Try(context.Background(), &rego.Source{Rego: text.String()})
		var ds rego.Diagnostics
		if !errors.As(err, &ds) || !strings.Contains(err.Error(), "of memory") {
			fmt.Fprintln(os.Stderr, "want the limit of memory, got", err)
			return 1
		}
	}
	runtime.KeepAlive(ballast)
	return 0
}
