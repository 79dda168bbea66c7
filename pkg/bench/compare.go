package bench

import (
	"fmt"
	"io"
	"slices"

	"github.com/fusegate/fusegate/pkg/output"
)

// Change is how a figure of a measurement differs between two reports.
type Change struct {
	Name, Metric string
	// Old and New are medians of all repetitions.
	Old, New float64
	// Regressed tells that it is worse by more than the threshold.
	Regressed bool
}

// metric is a figure that is compared. Less is better.
type metric struct {
	name string
	of   func(Result) float64
	// least is the smallest difference that counts, whatever its share: clocks
	// and schedulers make smaller ones.
	least float64
	show  func(float64) string
}

var metrics = []metric{
	{"p50", func(r Result) float64 { return r.P50 }, 1000, duration},
	{"allocs", func(r Result) float64 { return r.Allocs }, 1, number},
	{"bytes", func(r Result) float64 { return r.Bytes }, 64, number},
}

func number(n float64) string { return fmt.Sprintf("%.0f", n) }

// Compare compares the measurements that both reports have, by the median time
// and the memory of a review. A figure has regressed if it is more than threshold
// percent greater than it was.
func Compare(before, after Report, threshold float64) []Change {
	var out []Change
	for _, name := range names(after.Results) {
		was, is := named(before.Results, name), named(after.Results, name)
		if len(was) == 0 {
			continue
		}
		for _, m := range metrics {
			c := Change{Name: name, Metric: m.name, Old: median(was, m.of), New: median(is, m.of)}
			c.Regressed = c.New-c.Old >= m.least && c.New > c.Old*(1+threshold/100)
			out = append(out, c)
		}
	}
	return out
}

// names are those of the results, each once, in order.
func names(results []Result) []string {
	var out []string
	for _, r := range results {
		if !slices.Contains(out, r.Name) {
			out = append(out, r.Name)
		}
	}
	return out
}

func named(results []Result, name string) []Result {
	return slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.Name != name })
}

func median(results []Result, of func(Result) float64) float64 {
	var all []float64
	for _, r := range results {
		all = append(all, of(r))
	}
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

// Regressed tells whether any has.
func Regressed(changes []Change) bool {
	return slices.ContainsFunc(changes, func(c Change) bool { return c.Regressed })
}

// WriteChanges writes a table of them.
func WriteChanges(w io.Writer, changes []Change, s output.Style) error {
	show := map[string]func(float64) string{}
	for _, m := range metrics {
		show[m.name] = m.show
	}
	var rows [][]output.Cell
	for _, c := range changes {
		row := output.Cells(c.Name, c.Metric, show[c.Metric](c.Old), show[c.Metric](c.New), c.delta(), "")
		if c.Regressed {
			row[5] = output.Cell{Text: "regressed", Tone: output.Bad}
		}
		rows = append(rows, row)
	}
	return output.WriteTable(w, []string{"TEMPLATE", "METRIC", "OLD", "NEW", "CHANGE", ""}, rows, s)
}

func (c Change) delta() string {
	if c.Old == 0 {
		return "-"
	}
	return fmt.Sprintf("%+.1f%%", (c.New/c.Old-1)*100)
}
