package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/output"
)

// trial is one test while it runs, with the engine that judges its cases.
type trial struct {
	runner *Runner
	suite  *Suite
	test   *Test
	engine *engine.Engine
	// expansions say which objects imply others, if the test has any.
	expansions []*expansion
	// files are the documents that were read, by path.
	files map[string][]document
}

// run judges the cases, or expects that there is nothing to judge them by.
func (x *trial) run(ctx context.Context) ([]output.Case, error) {
	var err error
	if x.engine, err = engine.New(); err != nil {
		return nil, err
	}
	x.engine.CompileBy(x.runner.Compiler)
	if err := x.complete(); err != nil {
		return nil, err
	}
	err = x.addTemplate(ctx)
	if err == nil && x.test.Constraint != "" {
		err = x.addConstraint(ctx)
	}
	if x.test.Invalid {
		return nil, x.wantRefused(err)
	}
	if err != nil {
		return nil, err
	}
	if err := x.addExpansions(); err != nil {
		return nil, err
	}
	return x.cases(ctx), nil
}

func (x *trial) addExpansions() error {
	if x.test.Expansion == "" {
		return nil
	}
	docs, err := x.documents(x.test.Expansion)
	if err != nil {
		return x.from("expansion", err)
	}
	for _, d := range docs {
		u, err := d.object()
		if err != nil {
			return err
		}
		e, err := parseExpansion(u)
		if err != nil {
			return output.Problem{File: d.file, Line: d.start(), Err: err}
		}
		x.expansions = append(x.expansions, e)
	}
	return nil
}

// complete refuses a test that lacks what it is about.
func (x *trial) complete() error {
	switch {
	case x.test.Template == "":
		return x.problem("template", "template is missing: name the file that holds the ConstraintTemplate")
	case x.test.Constraint == "" && !x.test.Invalid:
		return x.problem("constraint", "constraint is missing: name the file that holds the constraint")
	}
	return nil
}

func (x *trial) problem(field, format string, args ...any) error {
	return output.Problem{
		File: x.suite.Path, Line: cmp.Or(x.test.lines[field], x.test.Line),
		Err: fmt.Errorf(format, args...),
	}
}

// refused is the error of a template or constraint that the engine refuses.
type refused struct {
	error
	// template tells which of the two.
	template bool
}

// Unwrap has what is wrong told one by one.
func (r refused) Unwrap() []error { return []error{r.error} }

// wantRefused turns err around for a test that expects something invalid: its
// constraint or, if it has none, its template.
func (x *trial) wantRefused(err error) error {
	what := "constraint"
	if x.test.Constraint == "" {
		what = "template"
	}
	if err == nil {
		return output.Problem{
			File: x.suite.Path, Line: cmp.Or(x.test.lines["invalid"], x.test.Line),
			Err: output.Mismatched(fmt.Errorf("invalid: the %s is accepted, and should be refused", what)),
		}
	}
	var r refused
	if errors.As(err, &r) && r.template == (what == "template") {
		return nil
	}
	return err
}

func (x *trial) addTemplate(ctx context.Context) error {
	doc, u, err := x.first(x.test.Template)
	if err != nil {
		return x.from("template", err)
	}
	if gvk := u.GroupVersionKind(); gvk.Group != engine.TemplateGroup || gvk.Kind != "ConstraintTemplate" {
		return output.Problem{File: doc.file, Line: doc.start(), Err: fmt.Errorf("%s is not a ConstraintTemplate of %s, as %s:%d says",
			name(u), engine.TemplateGroup, x.suite.Path, x.test.lines["template"])}
	}
	t, err := engine.ParseTemplate(u)
	if err == nil {
		err = x.engine.AddTemplate(ctx, t)
	}
	if errors.Is(err, engine.ErrNoAnswer) {
		return x.from("template", err)
	}
	if err != nil {
		return refused{x.locate(doc, err), true}
	}
	return nil
}

// locate says for each problem with a template where in its file it is.
func (x *trial) locate(doc document, err error) error {
	var errs []error
	for _, p := range engine.Problems(err) {
		text := p.Message
		if p.Code != "" {
			text = p.Code + ": " + text
		}
		errs = append(errs, output.Problem{File: doc.file, Line: doc.regoLine(p.Location), Err: errors.New(text)})
	}
	return errors.Join(errs...)
}

func (x *trial) addConstraint(ctx context.Context) error {
	doc, u, err := x.first(x.test.Constraint)
	if err != nil {
		return x.from("constraint", err)
	}
	at := output.Problem{File: doc.file, Line: doc.start()}
	if group := u.GroupVersionKind().Group; group != engine.ConstraintGroup {
		at.Err = fmt.Errorf("%s is not a constraint of %s, as %s:%d says",
			name(u), engine.ConstraintGroup, x.suite.Path, x.test.lines["constraint"])
		return at
	}
	err = x.engine.AddConstraint(ctx, u)
	if engine.IsNoTemplate(err) {
		at.Err = fmt.Errorf("%s is no constraint of the template in %s", name(u), x.path(x.test.Template))
		return at
	}
	if err != nil {
		at.Err = fmt.Errorf("constraint %s: %w", name(u), err)
		return refused{at, false}
	}
	return nil
}

func name(u *unstructured.Unstructured) string { return u.GetKind() + "/" + u.GetName() }

// from says which field of the suite names the file that err is about.
func (x *trial) from(field string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return x.problem(field, "%s: %w", field, err)
}

func (x *trial) path(file string) string { return path.Join(path.Dir(x.suite.Path), file) }

// documents reads a file that the suite names.
func (x *trial) documents(file string) ([]document, error) {
	full := x.path(file)
	if docs, found := x.files[full]; found {
		return docs, nil
	}
	docs, err := read(x.runner.files(), full)
	if err != nil {
		return nil, err
	}
	if x.files == nil {
		x.files = map[string][]document{}
	}
	x.files[full] = docs
	return docs, nil
}

// first is the first object in a file, which is all that counts of a
// template's or a constraint's file.
func (x *trial) first(file string) (document, *unstructured.Unstructured, error) {
	docs, err := x.documents(file)
	if err != nil {
		return document{}, nil, err
	}
	u, err := docs[0].object()
	return docs[0], u, err
}

func (r *Runner) files() fs.FS {
	if r.Files == nil {
		return Disk{}
	}
	return r.Files
}
