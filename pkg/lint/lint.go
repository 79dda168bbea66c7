// Package lint looks for what is wrong, or will be, with templates in files:
// what does not compile, what OPA's strict mode objects to, and what compiles
// and troubles its users all the same. It reads files only, beside the pipeline,
// and judges nothing.
package lint

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/rego"
	"github.com/fusegate/fusegate/pkg/suite"
)

// Rule is one thing that is looked for. ID is stable.
type Rule struct {
	ID string
	// Severity is Error for what the cluster would refuse, and Warning for what
	// it would take. Both make a run fail.
	Severity output.Level
	// Text says what it finds and why that matters.
	Text string
}

// The rules that need more than the Rego of one template.
const (
	ruleInvalid     = "invalid"
	ruleInterpreted = "interpreted"
	ruleNoTests     = "no-tests"
)

// Rules lists all of them.
func Rules() []Rule {
	return []Rule{
		{ruleInvalid, output.Error, "The cluster would refuse the template: its names, its schema or its Rego."},
		{rego.RuleStrict, output.Warning, "OPA's strict mode objects: unused variables and imports, and names that shadow others, are mostly mistakes."},
		{rego.RuleMessage, output.Warning, "A violation has no text as its msg. It would be a fault of the constraint."},
		{rego.RuleInventory, output.Warning, "The policy goes through every kind in the inventory. Its cost grows with the cluster, request by request."},
		{rego.RuleDeprecated, output.Warning, "A builtin is deprecated and no longer there in Rego v1."},
		{rego.RuleAudit, output.Warning, "The policy reads what only a request has and names no operations. Audit cannot judge by it, and nobody is told."},
		{rego.RuleSync, output.Warning, "The policy reads data.inventory, and no annotation says which kinds it needs there."},
		{rego.RuleParameter, output.Warning, "The policy reads a parameter that the schema does not describe. A typing error in a constraint goes unseen."},
		{ruleInterpreted, output.Warning, "The Rego cannot be compiled and is interpreted, which costs a hundred times as much."},
		{ruleNoTests, output.Warning, "No suite tests the template."},
	}
}

var byID = func() map[string]Rule {
	out := map[string]Rule{}
	for _, r := range Rules() {
		out[r.ID] = r
	}
	return out
}()

// Run looks at the templates in files and folders, and returns what it finds. The
// error is what could not be read, which is among the problems too, or the end of
// ctx. The suites that test a template are looked for in the same files and
// folders, and in the template's own folder with all below it. The compiler tries
// the templates first; nil has them compiled without limits.
func Run(ctx context.Context, paths []string, by engine.Compiler) (output.Lint, error) {
	objects, err := read(ctx, paths)
	tested := testedIn(paths, objects)
	out := output.Lint{Problems: output.Problems(err)}
	for _, o := range objects {
		out.Templates = append(out.Templates, output.Object{
			APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Name: o.GetName(), File: o.File, Line: o.Line,
		})
		l := &linter{Object: o}
		if err := l.template(ctx, tested, by); err != nil {
			return out, err
		}
		out.Flaws = append(out.Flaws, l.found...)
	}
	slices.SortStableFunc(out.Flaws, func(a, b output.Flaw) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return out, err
}

// read reads the templates.
func read(ctx context.Context, paths []string) ([]manifest.Object, error) {
	var out []manifest.Object
	var errs []error
	options := manifest.Options{Paths: paths, Stdin: os.Stdin, Want: func(text []byte) bool {
		return bytes.Contains(text, []byte("ConstraintTemplate"))
	}}
	for o, err := range manifest.Read(ctx, options) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if gvk := o.GroupVersionKind(); gvk.Group == engine.TemplateGroup && gvk.Kind == "ConstraintTemplate" {
			out = append(out, o)
		}
	}
	return out, errors.Join(errs...)
}

// testedIn are the files of templates that a suite tests by a case at least. What
// is no suite, or a broken one, tests nothing; verify tells of it.
func testedIn(paths []string, objects []manifest.Object) map[string]bool {
	targets := slices.Clone(paths)
	for _, o := range objects {
		targets = append(targets, filepath.Dir(o.File))
	}
	slices.Sort(targets)
	out := map[string]bool{}
	for _, target := range slices.Compact(targets) {
		if info, err := os.Stat(target); err != nil || !info.IsDir() {
			continue
		}
		suites, _ := suite.Find(suite.Disk{}, target+"/...")
		for _, s := range suites {
			for _, t := range s.Tests {
				if !s.Skip && !t.Skip && len(t.Cases) > 0 {
					out[full(filepath.Join(filepath.Dir(s.Path), t.Template))] = true
				}
			}
		}
	}
	return out
}

// full is a path that is the same for the same file.
func full(file string) string {
	if resolved, err := filepath.EvalSymlinks(file); err == nil {
		file = resolved
	}
	if absolute, err := filepath.Abs(file); err == nil {
		return absolute
	}
	return file
}

// linter is one template under examination.
type linter struct {
	manifest.Object
	found []output.Flaw
}

func (l *linter) report(rule string, line int, fix, message string) {
	l.found = append(l.found, output.Flaw{
		Rule: rule, Severity: byID[rule].Severity, About: byID[rule].Text, Template: l.GetName(),
		File: l.File, Line: line, Message: message, Fix: fix,
	})
}

// template applies all rules. Nothing can be said of what does not compile but
// that it does not.
func (l *linter) template(ctx context.Context, tested map[string]bool, by engine.Compiler) error {
	if !tested[full(l.File)] {
		l.report(ruleNoTests, l.Line, "write a suite; fusegate template new shows how one looks", "no suite tests it")
	}
	t, err := engine.ParseTemplate(l.Unstructured)
	if err != nil {
		l.report(ruleInvalid, l.Line, "", err.Error())
		return nil
	}
	e, err := engine.New()
	if err != nil {
		return err
	}
	e.CompileBy(by)
	err = errors.Join(e.CheckTemplate(ctx, t), e.AddTemplate(ctx, t))
	if errors.Is(err, engine.ErrNoAnswer) {
		return err
	}
	if err != nil {
		l.invalid(err)
		return nil
	}
	for kind, why := range e.Interpreted() {
		l.report(ruleInterpreted, l.Line, "write the Rego without it", fmt.Sprintf("%s is interpreted: %v", kind, why))
	}
	advices, err := rego.Advise(t)
	if err != nil {
		l.invalid(err)
	}
	for _, a := range advices {
		l.report(a.Rule, l.line(a.Location), a.Fix, a.Message)
	}
	return nil
}

func (l *linter) invalid(err error) {
	for _, p := range engine.Problems(err) {
		message := p.Message
		if p.Code != "" {
			message = p.Code + ": " + message
		}
		l.report(ruleInvalid, l.line(p.Location), "", message)
	}
}

// line is the line in the file of a place in the Rego, as in rego:3:7 or
// libs[0]:2:1.
func (l *linter) line(place string) int {
	parts := strings.Split(place, ":")
	if len(parts) < 2 {
		return l.Line
	}
	row, err := strconv.Atoi(parts[1])
	if err != nil {
		return l.Line
	}
	path := l.source(parts[0])
	if l.IsBlock(path...) {
		return l.FieldLine(path...) + row
	}
	return l.FieldLine(path...)
}

// source is the path of the field that holds an entry point, "rego", or a
// library, as in "libs[1]".
func (l *linter) source(name string) []string {
	field := []string{name}
	if index, found := strings.CutPrefix(name, "libs["); found {
		field = []string{"libs", strings.TrimSuffix(index, "]")}
	}
	target := []string{"spec", "targets", "0"}
	if legacy, _ := l.target()["rego"].(string); legacy != "" {
		return append(target, field...)
	}
	codes, _ := l.target()["code"].([]any)
	for i, c := range codes {
		if code, _ := c.(map[string]any); code["engine"] == "Rego" {
			return append(append(target, "code", strconv.Itoa(i), "source"), field...)
		}
	}
	return append(target, field...)
}

// target is spec.targets[0].
func (l *linter) target() map[string]any {
	targets, _, _ := unstructured.NestedFieldNoCopy(l.Object.Object, "spec", "targets")
	list, _ := targets.([]any)
	if len(list) == 0 {
		return nil
	}
	first, _ := list[0].(map[string]any)
	return first
}
