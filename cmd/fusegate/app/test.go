package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/printable"
	"github.com/fusegate/fusegate/pkg/trial"
)

const testExamples = `  # Judge manifests by the policies beside them
  fusegate test -f policies/ -f deploy/

  # What Helm or kustomize make
  helm template ./chart | fusegate test -f policies/ -f -
  fusegate test -f policies/ -k overlays/production

  # Why is this object not denied?
  fusegate test policies/ deploy/ --explain --object Pod/shop/web --constraint no-latest

  # For continuous integration
  fusegate test policies/ deploy/ -o github
  fusegate test policies/ deploy/ -o sarif >fusegate.sarif`

// offlineCodes explains the exit codes of commands that judge.
const offlineCodes = `Exit codes: 0 clean; 1 violations; 2 something could not be read, judged or run,
whatever the rest says: what is printed is then incomplete.`

// testFlags are the flags of fusegate test.
type testFlags struct {
	files, kustomize []string
	namespace        string
	denyOnly         bool
	workers          int
	format           func() (output.Format, error)

	explained, trace   bool
	object, constraint string

	notes notes
}

func newTest() *cobra.Command {
	f := &testFlags{}
	cmd := &cobra.Command{
		Use:   "test [file or folder]...",
		Short: "Judge manifests by templates and constraints, without a cluster",
		Long: `Judges objects by templates and constraints, all from files, with the engine
that judges in a cluster and the same messages. Templates, constraints and
objects may be given in any order and mixed: what is a policy is judged by, and
what is not is judged, as if it was about to be created.

Namespaces among the objects say which labels a namespaceSelector sees. Policies
that read other objects (data.inventory) see all that were given. An
AdmissionReview is judged as the request that it holds. An object of a
namespaced kind that names no namespace is taken for one of --namespace.

The run fails with 1 if a constraint that denies is violated; those that warn
or only record are shown. With --explain or --trace there is no verdict: 0 says
that everything could be explained.

` + offlineCodes,
		Example: testExamples,
		RunE:    f.run,
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "file or folder to read, with all below it; - is standard input; may be repeated")
	flags.StringArrayVarP(&f.kustomize, "kustomize", "k", nil, "folder with a kustomization to build; may be repeated")
	flags.StringVarP(&f.namespace, "namespace", "n", trial.DefaultNamespace, "namespace of objects that name none")
	flags.BoolVar(&f.denyOnly, "deny-only", false, "leave out violations of constraints that do not deny")
	flags.IntVar(&f.workers, "workers", 0, "objects to judge at a time; 0 is one for each processor")
	flags.BoolVar(&f.explained, "explain", false, "tell, for each object and constraint, whether it matches and why not, and which rule fired with which values")
	flags.BoolVar(&f.trace, "trace", false, "explain, with every step of the Rego interpreter")
	flags.StringVar(&f.object, "object", "", "explain this object only: KIND/NAME, KIND/NAMESPACE/NAME or NAME")
	flags.StringVar(&f.constraint, "constraint", "", "explain this constraint only: KIND/NAME or NAME")
	f.format = formatFlag(cmd, output.Formats())
	complete(cmd, map[string]completion{"filename": manifests, "kustomize": folders})
	cmd.ValidArgsFunction = manifests
	offline(cmd)
	return cmd
}

// offline has a command end with exitBroken when it is called in a wrong way.
func offline(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit{exitBroken, fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if own := (exit{}); err == nil || errors.As(err, &own) {
			return err
		}
		return exit{exitBroken, err}
	}
}

// softLimit is how much memory may be used before garbage is collected more
// eagerly than it would be otherwise.
const softLimit = 256 << 20

// frugal sets the soft limit unless the environment sets one.
func frugal() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softLimit)
	}
}

// input are the manifests that were asked for.
func (f *testFlags) input(cmd *cobra.Command, args []string) (manifest.Options, error) {
	in := manifest.Options{
		Paths: append(f.files, args...), Kustomize: f.kustomize, Stdin: cmd.InOrStdin(), Note: f.notes.add,
	}
	if len(in.Paths)+len(in.Kustomize) > 0 {
		return in, nil
	}
	if isTerminal(cmd.InOrStdin()) {
		return in, fmt.Errorf("nothing to read: name files or folders, or give - for standard input; see %s --help", cmd.CommandPath())
	}
	in.Paths = []string{manifest.Stdin}
	return in, nil
}

// maxNotes is how many notes are shown; more help nobody.
const maxNotes = 20

// notes are what is odd and no error.
type notes struct {
	shown []output.Problem
	more  int
}

func (n *notes) add(p output.Problem) {
	if len(n.shown) == maxNotes {
		n.more++
		return
	}
	n.shown = append(n.shown, p)
}

// show writes the first of them, and how many more there are.
func (n *notes) show(w io.Writer) {
	for _, p := range n.shown {
		_, _ = fmt.Fprintln(w, "note:", printable.Line(p.Error()))
	}
	if n.more > 0 {
		_, _ = fmt.Fprintf(w, "note: and %d more notes\n", n.more)
	}
}

func (f *testFlags) run(cmd *cobra.Command, args []string) error {
	format, err := f.format()
	if err != nil {
		return err
	}
	if err := f.checkExplain(format); err != nil {
		return err
	}
	in, err := f.input(cmd, args)
	if err != nil {
		return err
	}
	frugal()
	p := newProgress(cmd.ErrOrStderr())
	defer p.end()
	c := offlineCompiler()
	defer c.Close()
	t, err := trial.Prepare(cmd.Context(), trial.Options{
		Input: in, Namespace: f.namespace, Workers: f.parallel(), Compiler: c,
		Progress: func(n int) { p.say("%d objects judged", n) },
	})
	if err != nil {
		return err
	}
	if f.explained || f.trace {
		return f.explain(cmd, t, format)
	}
	report, err := t.Judge(cmd.Context())
	p.end()
	if err != nil {
		return err
	}
	return f.print(cmd, report, format)
}

func (f *testFlags) parallel() int {
	if f.workers > 0 {
		return f.workers
	}
	return runtime.GOMAXPROCS(0)
}

// print writes the report, and what the exit code says.
func (f *testFlags) print(cmd *cobra.Command, report output.Report, format output.Format) error {
	report.Version = version
	if f.denyOnly {
		report = report.DenyOnly()
	}
	f.notes.show(cmd.ErrOrStderr())
	printProblems(cmd, report.Problems)
	if err := output.Write(cmd.OutOrStdout(), report, format, styleOf(cmd.OutOrStdout())); err != nil {
		return err
	}
	switch {
	case !report.Complete():
		return exit{code: exitBroken}
	case report.Denied():
		return exit{code: exitError}
	}
	return nil
}
