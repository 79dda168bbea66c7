package trial

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
)

// progressEvery is how many objects are judged between two calls of Progress.
const progressEvery = 100

// task is one object on its way through judgement; done is closed when the
// rest is set.
type task struct {
	object   manifest.Object
	done     chan struct{}
	judged   output.Object
	findings []output.Finding
	err      error
}

// Judge reads the manifests and judges every object that is none of a policy,
// several at a time. The report is in the order of the manifests. The error is
// the end of ctx, or that of reading standard input; all else that goes wrong is
// in the report.
func (t *Trial) Judge(ctx context.Context) (output.Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := max(t.o.Workers, 1)
	tasks, ordered := make(chan *task, workers), make(chan *task, 16*workers)
	var group sync.WaitGroup
	defer group.Wait()
	var judged atomic.Int64
	for range workers {
		group.Go(func() {
			for x := range tasks {
				t.judge(ctx, x)
				t.progressed(int(judged.Add(1)))
				close(x.done)
			}
		})
	}
	c := &collection{report: output.Report{Constraints: t.constraints}}
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		c.collect(ordered)
	}()
	err := t.feed(ctx, tasks, ordered)
	close(tasks)
	close(ordered)
	<-collected
	return c.finish(t), err
}

func (t *Trial) progressed(n int) {
	if t.o.Progress != nil && n%progressEvery == 0 {
		t.o.Progress(n)
	}
}

// feed reads objects and hands each to the workers, and to the collector in
// order.
func (t *Trial) feed(ctx context.Context, tasks, ordered chan<- *task) error {
	for object, err := range t.read(ctx, nil, t.o.Input.Note) {
		if err != nil && !isProblem(err) {
			return err
		}
		if err == nil && isMachinery(object.Unstructured) {
			continue
		}
		x := &task{object: object, err: err, done: make(chan struct{})}
		ordered <- x
		if err != nil {
			close(x.done)
			continue
		}
		tasks <- x
	}
	return nil
}

// judge fills in what comes of one object, and lets it go.
func (t *Trial) judge(ctx context.Context, x *task) {
	o := x.object
	x.object = manifest.Object{}
	r, err := t.Review(o.Unstructured)
	if err != nil {
		x.err = output.Problem{File: o.File, Line: o.Line, Err: err}
		return
	}
	x.judged = describe(o, r)
	x.findings = findings(x.judged, t.engine.Review(ctx, r))
}

func describe(o manifest.Object, r *policy.Review) output.Object {
	out := output.Object{
		APIVersion: r.Kind.GroupVersion().String(), Kind: r.Kind.Kind, Namespace: r.Namespace, Name: r.Name,
		File: o.File, Line: o.Line,
	}
	if r.IsNamespace() {
		out.Namespace = ""
	}
	if out.Name == "" {
		out.Name = o.GetGenerateName()
	}
	return out
}

// findings are what the engine found.
func findings(o output.Object, result policy.Result) []output.Finding {
	var out []output.Finding
	for _, v := range result.Violations {
		out = append(out, output.Finding{
			Object: o, Constraint: output.Constraint{Kind: v.Constraint.Kind, Name: v.Constraint.Name},
			Action: v.Constraint.Strictest(), Message: v.Message, Details: v.Details,
		})
	}
	for _, f := range result.Faults {
		out = append(out, output.Finding{
			Object: o, Constraint: output.Constraint{Kind: f.Constraint.Kind, Name: f.Constraint.Name},
			Action: f.Constraint.Strictest(), Message: fmt.Sprintf("%s: %v", f.Cause, f.Err), Fault: true,
		})
	}
	return out
}

// collection is the report in the making.
type collection struct {
	report output.Report
	broken int
}

// collect takes what is judged, in order.
func (c *collection) collect(ordered <-chan *task) {
	for x := range ordered {
		<-x.done
		if x.err != nil {
			c.problem(x.err)
			c.broken++
			continue
		}
		c.report.Objects = append(c.report.Objects, x.judged)
		c.report.Findings = append(c.report.Findings, x.findings...)
	}
}

func (c *collection) problem(err error) {
	c.report.Problems = append(c.report.Problems, output.Problems(err)...)
}

// finish adds what was wrong with the policies. A run that judged nothing, or by
// nothing, is not a clean one.
func (c *collection) finish(t *Trial) output.Report {
	read := c.report.Problems
	c.report.Problems = nil
	for _, p := range t.problems {
		c.problem(p)
	}
	c.report.Problems = append(c.report.Problems, read...)
	if t.constraints == 0 && len(c.report.Problems) == 0 {
		c.problem(ErrNoConstraints)
	}
	if len(c.report.Objects) == 0 && c.broken == 0 {
		c.problem(ErrNoObjects)
	}
	return c.report
}
