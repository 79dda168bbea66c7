package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/bench"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/printable"
)

// benchFlags are the flags of fusegate bench.
type benchFlags struct {
	files         []string
	concurrency   int
	count         int
	duration      time.Duration
	format        func() (output.Format, error)
	save, compare string
	threshold     float64
}

func newBench() *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "bench [file or folder]...",
		Short: "Measure what templates and constraints cost",
		Long: `Judges the objects in files by the templates and constraints in files, over and
over, and tells how long a review takes and what it allocates: by all templates
together, then by each on its own. The objects are the inventory of policies that
read it.

--compare holds the median time, the allocations and the bytes of a review against
those that --save has written, best on the same machine with nothing else running.

Exit codes: 0 measured; 1 worse than what it was compared with by more than the
threshold; 2 something could not be read or judged.`,
		Example: `  fusegate bench -f templates/requiredlabels -f pods/
  fusegate bench policies/ pods/ -c 8 --duration 5s
  fusegate bench policies/ pods/ --save before.json
  fusegate bench policies/ pods/ --compare before.json --threshold 5
  fusegate bench policies/ pods/ --count 10 -o benchstat >new.txt`,
		RunE: f.run,
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "file or folder to read, with all below it; may be repeated")
	flags.IntVarP(&f.concurrency, "concurrency", "c", 1, "how many reviews to have under way at once")
	flags.IntVar(&f.count, "count", 1, "how often to measure everything; benchstat wants 6 at least")
	flags.DurationVar(&f.duration, "duration", time.Second, "how long each measurement takes at least")
	f.format = formatFlag(cmd, bench.Formats())
	flags.StringVar(&f.save, "save", "", "file to write the results to")
	flags.StringVar(&f.compare, "compare", "", "file of results to compare with")
	flags.Float64Var(&f.threshold, "threshold", 10, "by how many percent a figure may be worse than what it is compared with")
	offline(cmd)
	return cmd
}

func (f *benchFlags) run(cmd *cobra.Command, args []string) error {
	format, err := f.format()
	if err != nil {
		return err
	}
	if err := f.check(args); err != nil {
		return err
	}
	var before bench.Report
	if f.compare != "" {
		if before, err = bench.Read(f.compare); err != nil {
			return err
		}
	}
	report, err := f.measure(cmd, append(f.files, args...))
	if err != nil {
		return err
	}
	return f.finish(cmd, before, report, format)
}

func (f *benchFlags) check(args []string) error {
	switch {
	case len(f.files)+len(args) == 0:
		return errors.New("nothing to read: name files or folders with templates, constraints and objects")
	case f.concurrency < 1, f.count < 1, f.duration <= 0, f.threshold < 0:
		return errors.New("--concurrency, --count and --duration must be greater than zero, and --threshold not negative")
	}
	return nil
}

func (f *benchFlags) measure(cmd *cobra.Command, paths []string) (bench.Report, error) {
	c := offlineCompiler()
	defer c.Close()
	subject, err := bench.Load(cmd.Context(), paths, c)
	if err != nil {
		return bench.Report{}, err
	}
	p := newProgress(cmd.ErrOrStderr())
	defer p.end()
	o := bench.Options{Concurrency: f.concurrency, Duration: f.duration, Progress: func(name string) { p.say("measuring %s", name) }}
	var all []bench.Result
	for range f.count {
		results, err := bench.Run(cmd.Context(), subject, o)
		if err != nil {
			return bench.Report{}, err
		}
		all = append(all, results...)
	}
	return bench.NewReport(version, o, all), nil
}

// finish writes the results, saves and compares them.
func (f *benchFlags) finish(cmd *cobra.Command, before, report bench.Report, format output.Format) error {
	style := styleOf(cmd.OutOrStdout())
	if err := report.Write(cmd.OutOrStdout(), format, style); err != nil {
		return err
	}
	if f.save != "" {
		if err := report.Save(f.save); err != nil {
			return err
		}
	}
	if all := report.Results[0]; all.Faults > 0 {
		return fmt.Errorf("%d of the reviews were not judged, so that this is not what they cost: %s", all.Faults, printable.Line(all.Fault))
	}
	if f.compare == "" {
		return nil
	}
	changes := bench.Compare(before, report, f.threshold)
	if len(changes) == 0 {
		return fmt.Errorf("%s measures nothing that was measured now", f.compare)
	}
	to := cmd.OutOrStdout()
	if format != output.Table {
		to, style = cmd.ErrOrStderr(), styleOf(cmd.ErrOrStderr())
	}
	if err := bench.WriteChanges(to, changes, style); err != nil {
		return err
	}
	if bench.Regressed(changes) {
		return exit{code: exitError}
	}
	return nil
}
