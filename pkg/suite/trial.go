package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// trial is one test while it runs, with the engine that judges its cases.
type trial struct {
	runner *Runner
	suite  *Suite
	test   *Test
	engine *engine.Engine
	// files are the documents that were read, by path.
	files map[string][]document
}

// run judges the cases, or expects that there is nothing to judge them by.
func (x *trial) run(ctx context.Context) ([]CaseResult, error) {
	var err error
	if x.engine, err = engine.New(); err != nil {
		return nil, err
	}
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
	return x.cases(ctx), nil
}

// complete refuses a test that lacks what it is about.
func (x *trial) complete() error {
	switch {
	case x.test.Template == "":
		return x.problem("template", "template is missing: name the file that holds the ConstraintTemplate")
	case x.test.Constraint == "" && !x.test.Invalid:
		return x.problem("constraint", "constraint is missing: name the file that holds the constraint")
	case x.test.Expansion != "":
		return x.problem("expansion", "expansion: Fusegate does not expand objects, so what they imply cannot be judged; test the implied objects themselves, or set skip: true")
	}
	return nil
}

func (x *trial) problem(field, format string, args ...any) error {
	return &Problem{
		File: x.suite.Path, Line: cmp.Or(x.test.lines[field], x.test.Line), Broken: true,
		Err: fmt.Errorf(format, args...),
	}
}

// refused is the error of a template or constraint that the engine refuses.
type refused struct {
	error
	// template tells which of the two.
	template bool
}

func (r refused) Unwrap() error { return r.error }

// wantRefused turns err around for a test that expects something invalid: its
// constraint or, if it has none, its template.
func (x *trial) wantRefused(err error) error {
	what := "constraint"
	if x.test.Constraint == "" {
		what = "template"
	}
	if err == nil {
		return &Problem{
			File: x.suite.Path, Line: cmp.Or(x.test.lines["invalid"], x.test.Line),
			Err: fmt.Errorf("invalid: the %s is accepted, and should be refused", what),
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
		return &Problem{File: doc.file, Line: doc.start(), Broken: true, Err: fmt.Errorf("%s is not a ConstraintTemplate of %s, as %s:%d says",
			name(u), engine.TemplateGroup, x.suite.Path, x.test.lines["template"])}
	}
	t, err := engine.ParseTemplate(u)
	if err == nil {
		err = x.engine.AddTemplate(ctx, t)
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
		errs = append(errs, &Problem{File: doc.file, Line: doc.regoLine(p.Location), Broken: true, Err: errors.New(text)})
	}
	return errors.Join(errs...)
}

func (x *trial) addConstraint(ctx context.Context) error {
	doc, u, err := x.first(x.test.Constraint)
	if err != nil {
		return x.from("constraint", err)
	}
	at := &Problem{File: doc.file, Line: doc.start(), Broken: true}
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

func (x *trial) cases(ctx context.Context) []CaseResult {
	out := make([]CaseResult, len(x.test.Cases))
	for i := range x.test.Cases {
		c := &x.test.Cases[i]
		out[i] = CaseResult{Case: c, Skipped: c.Skip || !x.runner.Filter.Case(x.test, c)}
		if out[i].Skipped {
			continue
		}
		began := time.Now()
		out[i].Err = x.judge(ctx, c)
		out[i].Elapsed = time.Since(began)
	}
	return out
}

// judge compares what the constraint finds in a case's object with what the
// case asserts.
func (x *trial) judge(ctx context.Context, c *Case) error {
	at := &Problem{File: x.suite.Path, Line: c.Line, Broken: true}
	switch {
	case c.Object == "":
		at.Err = errors.New("object is missing: name the file that holds what is to be judged")
		return at
	case len(c.Assertions) == 0:
		at.Err = errors.New("assertions is missing or empty: say what is to be found, as in [{violations: no}]")
		return at
	}
	r, err := x.review(c)
	if err != nil {
		return x.fromCase(c, err)
	}
	result, err := x.decide(ctx, c, r)
	if err != nil {
		return x.fromCase(c, err)
	}
	return c.check(x.suite.Path, found(result))
}

func (x *trial) fromCase(c *Case, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &Problem{File: x.suite.Path, Line: c.Line, Broken: true, Err: err}
}

// review reads the object of a case, of which its file holds exactly one.
func (x *trial) review(c *Case) (*policy.Review, error) {
	docs, err := x.documents(c.Object)
	if err != nil {
		return nil, err
	}
	if len(docs) > 1 {
		return nil, &Problem{File: docs[1].file, Line: docs[1].start(), Broken: true, Err: fmt.Errorf(
			"there are %d objects in it, and a case judges one: give each a file and a case (%s:%d)", len(docs), x.suite.Path, c.lines["object"])}
	}
	u, err := docs[0].object()
	if err != nil {
		return nil, err
	}
	inventory, err := x.inventory(c)
	if err != nil {
		return nil, err
	}
	r, err := reviewOf(u, inventory)
	if err != nil {
		return nil, &Problem{File: docs[0].file, Line: docs[0].start(), Broken: true, Err: err}
	}
	return r, nil
}

// inventory decodes anew what a case puts into data.inventory, since the engine
// keeps it.
func (x *trial) inventory(c *Case) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, file := range c.Inventory {
		docs, err := x.documents(file)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			u, err := d.object()
			if err != nil {
				return nil, err
			}
			out = append(out, u)
		}
	}
	return out, nil
}

// decide judges r while data.inventory holds the case's objects.
func (x *trial) decide(ctx context.Context, c *Case, r *policy.Review) (policy.Result, error) {
	objects, err := x.inventory(c)
	if err != nil {
		return policy.Result{}, err
	}
	for _, u := range objects {
		where := inventoryPath(u)
		if err := x.engine.AddData(ctx, where, u.Object); err != nil {
			return policy.Result{}, fmt.Errorf("adding %s to the inventory: %w", name(u), err)
		}
		defer func() { _ = x.engine.RemoveData(ctx, where) }() // there is nothing that can fail
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(x.runner.Timeout, DefaultTimeout))
	defer cancel()
	return x.engine.Review(ctx, r), nil
}

// check holds the assertions against what was found. A fault that no assertion
// asks for fails the case: nobody may take a policy that crashed for one that
// passed.
func (c *Case) check(file string, f findings) error {
	var errs []error
	for i := range c.Assertions {
		a := &c.Assertions[i]
		if err := a.check(f); err != nil {
			errs = append(errs, &Problem{File: file, Line: a.Line, Err: fmt.Errorf("assertions[%d]: %w", i, err)})
		}
	}
	for _, fault := range f.faults {
		if !c.expects(fault) {
			errs = append(errs, &Problem{File: file, Line: c.Line, Err: errors.New(fault)})
		}
	}
	return errors.Join(errs...)
}

// expects tells whether an assertion asks for a fault by its text.
func (c *Case) expects(fault string) bool {
	for _, a := range c.Assertions {
		if a.message != nil && a.atMost > 0 && a.message.MatchString(fault) {
			return true
		}
	}
	return false
}

func (r *Runner) files() fs.FS {
	if r.Files == nil {
		return Disk{}
	}
	return r.Files
}

// start is the line in its file of the first thing in the document.
func (d document) start() int {
	line := d.line + 1
	for text := range strings.Lines(string(d.text)) {
		if t := strings.TrimSpace(text); t != "" && t[0] != '#' {
			break
		}
		line++
	}
	return line
}

// regoLine is the line in the file of a place in a template's Rego, such as
// rego:3:7 or libs[0]:2:1; that of the document where there is no such place.
func (d document) regoLine(place string) int {
	parts := strings.Split(place, ":")
	root, err := d.node()
	if len(parts) < 2 || err != nil {
		return d.start()
	}
	row, err := strconv.Atoi(parts[1])
	if err != nil {
		return d.start()
	}
	return sourceLine(root, parts[0], row, d.start())
}
