package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/fusegate/fusegate/test/controlplane"
)

// row is one shape with what was measured.
type row struct {
	Webhook string  `json:"webhook"`
	Says    string  `json:"says"`
	Median  trial   `json:"median"`
	Runs    []trial `json:"runs"`
}

// median takes the median of each column by its time, with what came of that
// one; of an even number the later.
func median(runs []trial) trial {
	m := trial{
		Start:    middle(runs, func(t trial) outcome { return t.Start }),
		Restored: slices.MinFunc(runs, func(a, b trial) int { return cmp.Compare(a.Restored, b.Restored) }).Restored,
		Calls:    slices.MaxFunc(runs, func(a, b trial) int { return cmp.Compare(a.Calls, b.Calls) }).Calls,
	}
	for i := range runs[0].Writes {
		m.Writes = append(m.Writes, middle(runs, func(t trial) outcome { return t.Writes[i] }))
	}
	return m
}

func middle(runs []trial, column func(trial) outcome) outcome {
	var all []outcome
	for _, t := range runs {
		all = append(all, column(t))
	}
	slices.SortStableFunc(all, func(a, b outcome) int { return cmp.Compare(a.Seconds, b.Seconds) })
	return all[len(all)/2]
}

// String is for the line of progress.
func (t trial) String() string {
	parts := []string{t.Start.started()}
	for _, w := range t.Writes {
		parts = append(parts, w.written())
	}
	return fmt.Sprintf("%s; %d roles back; %d calls", strings.Join(parts, ", "), t.Restored, t.Calls)
}

// started tells of a start. The reason of its end is cut after what failed.
func (o outcome) started() string {
	if o.OK {
		return fmt.Sprintf("ready after %.1f s", o.Seconds)
	}
	reason, _, _ := strings.Cut(o.Error, ": ")
	return fmt.Sprintf("ends after %.1f s: %s", o.Seconds, reason)
}

// written tells of a write.
func (o outcome) written() string {
	if o.OK {
		return fmt.Sprintf("%.2f s", o.Seconds)
	}
	return fmt.Sprintf("fails after %.1f s", o.Seconds)
}

// report is what -o json prints.
type report struct {
	Kubernetes string   `json:"kubernetes"`
	CPUs       int      `json:"cpus"`
	Missing    []string `json:"missingRoles"`
	Columns    []string `json:"writes"`
	Rows       []row    `json:"rows"`
}

func writeJSON(w io.Writer, rows []row) error {
	r := report{Kubernetes: controlplane.Version, CPUs: runtime.NumCPU(), Missing: bootstrapped, Rows: rows}
	for _, p := range probes {
		r.Columns = append(r.Columns, p.user+": "+p.path)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func writeMarkdown(w io.Writer, rows []row) error {
	lines := [][]string{header()}
	for _, r := range rows {
		cells := []string{r.Webhook, r.Median.Start.started()}
		for _, o := range r.Median.Writes {
			cells = append(cells, o.written())
		}
		lines = append(lines, cells)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "kube-apiserver %s, %d CPUs, %d ClusterRoles missing, median of %d\n\n",
		controlplane.Version, runtime.NumCPU(), len(bootstrapped), len(rows[0].Runs))
	align(&b, lines)
	b.WriteString("\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "- %s: %s\n", r.Webhook, r.Says)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

func header() []string {
	out := []string{"webhook", "the API server that starts"}
	for _, p := range probes {
		out = append(out, p.name)
	}
	return out
}

// align writes lines of equally many cells as a table, the first as its head.
func align(b *strings.Builder, lines [][]string) {
	width := make([]int, len(lines[0]))
	for _, cells := range lines {
		for i, cell := range cells {
			width[i] = max(width[i], len(cell))
		}
	}
	for i, cells := range lines {
		for j, cell := range cells {
			fmt.Fprintf(b, "| %-*s ", width[j], cell)
		}
		b.WriteString("|\n")
		if i > 0 {
			continue
		}
		for _, n := range width {
			b.WriteString("|" + strings.Repeat("-", n+2))
		}
		b.WriteString("|\n")
	}
}
