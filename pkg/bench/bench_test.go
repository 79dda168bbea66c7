package bench_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/bench"
	"github.com/fusegate/fusegate/pkg/output"
)

const (
	template = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: NAME}
spec:
  crd: {spec: {names: {kind: KIND}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package a
`
	unlabelled = "      violation[{\"msg\": \"no owner\"}] { not input.review.object.metadata.labels.owner }\n"
	unique     = "      violation[{\"msg\": \"twice\"}] { data.inventory.namespace[_].v1.ConfigMap[n].data.key == \"b\"; n != input.review.name }\n"
	configMaps = `apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {owner: b}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b}
data: {key: b}
`
)

func policy(kind, rego string) string {
	return strings.NewReplacer("NAME", strings.ToLower(kind), "KIND", kind).Replace(template) + rego +
		"---\napiVersion: constraints.gatekeeper.sh/v1beta1\nkind: " + kind + "\nmetadata: {name: c}\n---\n"
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func measured(t *testing.T, concurrency int) bench.Report {
	t.Helper()
	s, err := bench.Load(t.Context(), []string{file(t, policy("Owned", unlabelled)+policy("Unique", unique)+configMaps)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := bench.Options{Concurrency: concurrency, Duration: 20 * time.Millisecond}
	results, err := bench.Run(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return bench.NewReport("test", o, results)
}

// TestRun: all templates together and each of them, on the same objects, which
// are the inventory as well.
func TestRun(t *testing.T) {
	type outcome struct {
		Name                                     string
		Constraints, Objects, Violations, Faults int
	}
	want := []outcome{{"all", 2, 2, 2, 0}, {"Owned", 1, 2, 1, 0}, {"Unique", 1, 2, 1, 0}}
	for _, concurrency := range []int{0, 4} {
		var got []outcome
		for _, r := range measured(t, concurrency).Results {
			got = append(got, outcome{r.Name, r.Constraints, r.Objects, r.Violations, r.Faults})
			if r.Reviews < 2 || r.Throughput <= 0 || r.P50 <= 0 || r.P50 > r.P95 || r.P95 > r.P99 || r.Allocs <= 0 || r.Bytes <= r.Allocs {
				t.Errorf("%d at once: this cannot be: %+v", concurrency, r)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d at once (-want +got):\n%s", concurrency, diff)
		}
	}
}

func TestInterrupted(t *testing.T) {
	s, err := bench.Load(t.Context(), []string{file(t, policy("Owned", unlabelled)+configMaps)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := bench.Run(ctx, s, bench.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestLoadErrors(t *testing.T) {
	cases := map[string]struct{ reason, text, want string }{
		"NoConstraints": {"nothing to judge by", configMaps, "no constraint was given"},
		"NoObjects":     {"nothing to judge", policy("Owned", unlabelled), "no object was given"},
		"BrokenYAML":    {"a document that cannot be read", policy("Owned", unlabelled) + configMaps + "---\na: b: c\n", "all.yaml:25: reading YAML"},
		"BrokenRego":    {"a template that does not compile", policy("Owned", "      violation[{\"msg\": x}] { true }\n") + configMaps, "all.yaml:10"},
		"BadReview":     {"an AdmissionReview without a request", policy("Owned", unlabelled) + "apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n", "all.yaml:16: request"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := bench.Load(t.Context(), []string{file(t, tc.text)}, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got error %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

// TestFormats: what is saved is read back, and what is for benchstat has the
// form of its lines.
func TestFormats(t *testing.T) {
	r := measured(t, 1)
	name := filepath.Join(t.TempDir(), "saved.json")
	if err := r.Save(name); err != nil {
		t.Fatal(err)
	}
	back, err := bench.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Errorf("read back (-saved +read):\n%s", diff)
	}
	var out bytes.Buffer
	if err := r.Write(&out, bench.Benchstat, output.Style{}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 6 {
		t.Fatalf("got\n%s\nwant three lines of configuration and three of results", out.String())
	}
	for _, line := range lines[3:] {
		checkBenchmarkLine(t, line)
	}
	out.Reset()
	if err := r.Write(&out, output.Table, output.Style{}); err != nil || strings.Count(out.String(), "\n") != 4 {
		t.Errorf("got error %v and\n%s\nwant a header and three rows", err, out.String())
	}
}

var benchmarkName = regexp.MustCompile(`^BenchmarkReview/\w+-\d+$`)

// checkBenchmarkLine holds a line against the Go benchmark format: a name, the
// number of iterations, and pairs of a value and a unit.
func checkBenchmarkLine(t *testing.T, line string) {
	t.Helper()
	fields := strings.Fields(line)
	if !benchmarkName.MatchString(fields[0]) || len(fields)%2 != 0 {
		t.Fatalf("%q: want a name, a number, and pairs", line)
	}
	for i := 2; i < len(fields); i += 2 {
		if _, err := strconv.ParseFloat(fields[i], 64); err != nil {
			t.Errorf("%q: %q is no number", line, fields[i])
		}
	}
}

func TestReadErrors(t *testing.T) {
	for text, want := range map[string]string{"{": "reading", "{}": "there are no results in it"} {
		if _, err := bench.Read(file(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", text, err, want)
		}
	}
}

func TestCompare(t *testing.T) {
	report := func(results ...bench.Result) bench.Report { return bench.Report{Results: results} }
	result := func(p50, allocs, bytes float64) bench.Result {
		return bench.Result{Name: "all", P50: p50, Allocs: allocs, Bytes: bytes}
	}
	before := report(result(100_000, 100, 10_000))
	cases := map[string]struct {
		reason string
		after  bench.Report
		want   []string
	}{
		"Same":        {"nothing changed", before, nil},
		"Better":      {"less is better", report(result(10, 10, 10)), nil},
		"Within":      {"no more than the threshold", report(result(110_000, 110, 11_000)), nil},
		"Slower":      {"the time", report(result(111_000, 100, 10_000)), []string{"p50"}},
		"MoreAllocs":  {"the allocations", report(result(100_000, 111, 10_000)), []string{"allocs"}},
		"MoreBytes":   {"the bytes", report(result(100_000, 100, 11_001)), []string{"bytes"}},
		"Median":      {"one slow repetition of three is noise", report(result(900_000, 100, 10_000), result(100_000, 100, 10_000), result(99_000, 100, 10_000)), nil},
		"Elsewhere":   {"what was not measured before cannot have got worse", report(bench.Result{Name: "New", P50: 1e9}), nil},
		"Everything":  {"all of them", report(result(1e9, 1e9, 1e9)), []string{"p50", "allocs", "bytes"}},
		"EvenMedians": {"the median of two is between them", report(result(100_000, 100, 10_000), result(140_000, 100, 10_000)), []string{"p50"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			changes := bench.Compare(before, tc.after, 10)
			var got []string
			for _, c := range changes {
				if c.Regressed {
					got = append(got, c.Metric)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || bench.Regressed(changes) != (len(tc.want) > 0) {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	tiny := bench.Compare(report(result(200, 1, 10)), report(result(900, 1.5, 70)), 10)
	if bench.Regressed(tiny) {
		t.Errorf("differences too small to be measured count: %+v", tiny)
	}
	var out bytes.Buffer
	if err := bench.WriteChanges(&out, bench.Compare(before, report(result(200_000, 100, 10_000)), 10), output.Style{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "100µs   200µs   +100.0%   regressed") {
		t.Errorf("got\n%s", out.String())
	}
}
