package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
)

func (x *trial) cases(ctx context.Context) []output.Case {
	out := make([]output.Case, len(x.test.Cases))
	for i := range x.test.Cases {
		c := &x.test.Cases[i]
		out[i] = output.Case{Name: c.Name, Line: c.Line, Skipped: c.Skip || !x.runner.Filter.Case(x.test, c)}
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
	at := output.Problem{File: x.suite.Path, Line: c.Line}
	switch {
	case c.Object == "":
		at.Err = errors.New("object is missing: name the file that holds what is to be judged")
		return at
	case len(c.Assertions) == 0:
		at.Err = errors.New("assertions is missing or empty: say what is to be found, as in [{violations: no}]")
		return at
	}
	f, err := x.find(ctx, c)
	if err != nil {
		return x.fromCase(c, err)
	}
	return c.check(x.suite.Path, f)
}

// find is what the constraint finds in the object of a case and in the objects
// that it implies, while data.inventory holds the case's objects.
func (x *trial) find(ctx context.Context, c *Case) (findings, error) {
	u, err := x.object(c)
	if err != nil {
		return findings{}, err
	}
	inventory, err := x.inventory(c)
	if err != nil {
		return findings{}, err
	}
	r, err := reviewOf(u, inventory)
	if err != nil {
		docs, _ := x.documents(c.Object) // they have been read
		return findings{}, output.Problem{File: docs[0].file, Line: docs[0].start(), Err: err}
	}
	remove, err := x.fill(ctx, c)
	defer remove()
	if err != nil {
		return findings{}, err
	}
	all := found(x.decide(ctx, r))
	if r.Request != nil {
		return all, nil // a request implies nothing
	}
	more, err := expand(x.expansions, u, 0)
	for _, i := range more {
		f := i.word(found(x.decide(ctx, i.review(inventory))))
		all.violations, all.faults = append(all.violations, f.violations...), append(all.faults, f.faults...)
	}
	return all, err
}

func (x *trial) fromCase(c *Case, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return output.Problem{File: x.suite.Path, Line: c.Line, Err: err}
}

// object reads the object of a case, of which its file holds exactly one.
func (x *trial) object(c *Case) (*unstructured.Unstructured, error) {
	docs, err := x.documents(c.Object)
	if err != nil {
		return nil, err
	}
	if len(docs) > 1 {
		return nil, output.Problem{File: docs[1].file, Line: docs[1].start(), Err: fmt.Errorf(
			"there are %d objects in it, and a case judges one: give each a file and a case (%s:%d)", len(docs), x.suite.Path, c.lines["object"])}
	}
	return docs[0].object()
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

// fill puts the case's objects into data.inventory; what it returns takes them
// out again.
func (x *trial) fill(ctx context.Context, c *Case) (func(), error) {
	var filled [][]string
	remove := func() {
		for _, where := range filled {
			_ = x.engine.RemoveData(ctx, where) // there is nothing that can fail
		}
	}
	objects, err := x.inventory(c)
	if err != nil {
		return remove, err
	}
	for _, u := range objects {
		where := inventoryPath(u)
		if err := x.engine.AddData(ctx, where, u.Object); err != nil {
			return remove, fmt.Errorf("adding %s to the inventory: %w", name(u), err)
		}
		filled = append(filled, where)
	}
	return remove, nil
}

func (x *trial) decide(ctx context.Context, r *policy.Review) policy.Result {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(x.runner.Timeout, DefaultTimeout))
	defer cancel()
	return x.engine.Review(ctx, r)
}

// check holds the assertions against what was found. A fault that no assertion
// asks for fails the case: nobody may take a policy that crashed for one that
// passed.
func (c *Case) check(file string, f findings) error {
	var errs []error
	for i := range c.Assertions {
		a := &c.Assertions[i]
		if err := a.check(f); err != nil {
			errs = append(errs, output.Problem{File: file, Line: a.Line, Err: output.Mismatched(fmt.Errorf("assertions[%d]: %w", i, err))})
		}
	}
	for _, fault := range f.faults {
		if !c.expects(fault) {
			errs = append(errs, output.Problem{File: file, Line: c.Line, Err: output.Mismatched(errors.New(fault))})
		}
	}
	return errors.Join(errs...)
}

// expects tells whether an assertion asks for a fault by its text.
func (c *Case) expects(fault string) bool {
	for _, a := range c.Assertions {
		if a.Message != nil && a.AtMost > 0 && a.Message.MatchString(fault) {
			return true
		}
	}
	return false
}
