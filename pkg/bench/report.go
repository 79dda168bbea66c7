package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/fusegate/fusegate/pkg/output"
)

// Benchstat is the format of go test -bench, which benchstat reads.
const Benchstat output.Format = "benchstat"

// Formats are those that Write knows.
func Formats() []output.Format { return []output.Format{output.Table, output.JSON, Benchstat} }

// Report is a run of measurements, as it is saved.
type Report struct {
	Version     string `json:"version"`
	Go          string `json:"go"`
	Platform    string `json:"platform"`
	Processors  int    `json:"processors"`
	Concurrency int    `json:"concurrency"`
	// Results are those of each repetition, in order.
	Results []Result `json:"results"`
}

// NewReport says where the results were measured. version is Fusegate's.
func NewReport(version string, o Options, results []Result) Report {
	return Report{
		Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Processors: runtime.GOMAXPROCS(0), Concurrency: max(o.Concurrency, 1), Results: results,
	}
}

// Write writes the report.
func (r Report) Write(w io.Writer, f output.Format, s output.Style) error {
	switch f {
	case output.JSON:
		return output.Encode(w, f, r)
	case Benchstat:
		return r.benchstat(w)
	}
	return r.table(w, s)
}

// benchstat writes a line for each measurement and repetition
// (https://go.dev/design/14313-benchmark-format).
func (r Report) benchstat(w io.Writer) error {
	goos, goarch, _ := strings.Cut(r.Platform, "/")
	if _, err := fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: fusegate\n", goos, goarch); err != nil {
		return err
	}
	for _, x := range r.Results {
		_, err := fmt.Fprintf(w, "BenchmarkReview/%s-%d\t%d\t%.1f ns/op\t%.0f B/op\t%.0f allocs/op\t%.1f p50-ns/op\t%.1f p95-ns/op\t%.1f p99-ns/op\t%.1f reviews/s\n",
			x.Name, r.Processors, x.Reviews, x.Mean, x.Bytes, x.Allocs, x.P50, x.P95, x.P99, x.Throughput)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r Report) table(w io.Writer, s output.Style) error {
	var rows [][]output.Cell
	for _, x := range r.Results {
		rows = append(rows, output.Cells(x.Name, x.Constraints, x.Objects, fmt.Sprintf("%.0f", x.Throughput),
			duration(x.Mean), duration(x.P50), duration(x.P95), duration(x.P99),
			fmt.Sprintf("%.0f", x.Allocs), fmt.Sprintf("%.0f", x.Bytes), x.Violations, x.Faults))
	}
	return output.WriteTable(w, []string{
		"TEMPLATE", "CONSTRAINTS", "OBJECTS", "REVIEWS/S", "MEAN", "P50", "P95", "P99", "ALLOCS", "BYTES", "VIOLATIONS", "FAULTS",
	}, rows, s)
}

// duration is a number of nanoseconds for people to read.
func duration(ns float64) string {
	d := time.Duration(ns)
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Nanosecond).String()
}

// Save writes the report to a file for Read.
func (r Report) Save(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// Read reads a report that Save wrote.
func Read(file string) (Report, error) {
	var r Report
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(r.Results) == 0 {
		return r, fmt.Errorf("reading %s: there are no results in it: name a file that --save wrote", file)
	}
	return r, nil
}
