package exec_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
	"github.com/open-policy-agent/opa/v1/util"

	compiled "github.com/fusegate/fusegate/pkg/rego/exec"
	"github.com/fusegate/fusegate/pkg/rego/plan"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// wantSame is the share of OPA's conformance cases that the compiled evaluator
// must settle by itself.
const wantSame = 0.85

// verdict is what became of one case.
type verdict string

const (
	same      verdict = "same"
	refused   verdict = "refused"
	different verdict = "different"
)

// init declares the builtin that the cases bring along.
func init() {
	sleep := &ast.Builtin{Name: "test.sleep", Decl: types.NewFunction(types.Args(types.S), types.NewNull())}
	ast.RegisterBuiltin(sleep)
	topdown.RegisterBuiltinFunc(sleep.Name, func(_ topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		d, err := time.ParseDuration(string(operands[0].Value.(ast.String)))
		if err != nil {
			return err
		}
		<-time.After(d)
		return iter(ast.InternedNullTerm)
	})
}

// tally counts verdicts.
type tally map[verdict]int

// TestConformance runs OPA's conformance cases. A case that planner or
// translator refuses runs on the interpreter in production.
func TestConformance(t *testing.T) {
	byCategory, total := map[string]tally{}, tally{}
	for _, version := range []struct {
		folder string
		rego   ast.RegoVersion
	}{{"v0", ast.RegoV0}, {"v1", ast.RegoV1}} {
		for _, tc := range cases.MustLoad(filepath.Join(casesFolder(t), version.folder)).Sorted().Cases {
			v, why := conform(t, tc, version.rego)
			category := version.folder + "/" + strings.Split(tc.Note, "/")[0]
			if byCategory[category] == nil {
				byCategory[category] = tally{}
			}
			byCategory[category][v]++
			total[v]++
			if v == different {
				t.Errorf("%s %s: %s", version.folder, tc.Note, why)
			}
			if v == refused {
				t.Logf("%s %s: refused: %s", version.folder, tc.Note, why)
			}
		}
	}
	report(t, byCategory, total)
}

func report(t *testing.T, byCategory map[string]tally, total tally) {
	t.Helper()
	for _, c := range slices.Sorted(maps.Keys(byCategory)) {
		n := byCategory[c]
		t.Logf("%-40s same %4d  refused %3d  different %3d", c, n[same], n[refused], n[different])
	}
	all := total[same] + total[refused] + total[different]
	t.Logf("%-40s same %4d  refused %3d  different %3d  of %d", "total", total[same], total[refused], total[different], all)
	if share := float64(total[same]) / float64(all); share < wantSame {
		t.Errorf("%.1f %% of the cases are the same, want %.0f %%", 100*share, 100*wantSame)
	}
}

// casesFolder is where the module cache has OPA's cases.
func casesFolder(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa/v1/test/cases").Output()
	if err != nil {
		t.Fatalf("looking for OPA's conformance cases: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "testdata")
}

// conform runs a case on both evaluators.
func conform(t *testing.T, tc cases.TestCase, version ast.RegoVersion) (verdict, string) {
	for k, v := range tc.Env {
		t.Setenv(k, v)
	}
	c, err := compile(tc, version)
	if err != nil {
		return different, "compiling: " + err.Error()
	}
	want := interpret(t, tc, c)
	if !want.expected(tc) {
		return different, fmt.Sprintf("the interpreter itself gives %v, %v", want.results, want.err)
	}
	p, err := plan.Plan(t.Context(), c, ast.MustParseBody(tc.Query))
	if err != nil {
		return refused, err.Error()
	}
	program, err := compiled.Translate(p, compiled.Options{Strict: tc.StrictError, Capabilities: ast.CapabilitiesForThisVersion()})
	if err != nil {
		return refused, err.Error()
	}
	got := run(t.Context(), tc, program)
	if got.err != nil && tc.WantResult != nil {
		return refused, "erred: " + got.err.Error()
	}
	if got.expected(tc) || tc.WantResult == nil && got.err != nil {
		return same, ""
	}
	return different, fmt.Sprintf("got %v, error %v; want %v, error %v", got.results, got.err, want.results, want.err)
}

// outcome is the result of a case, an object for each solution.
type outcome struct {
	results *ast.Term
	err     error
}

// expected tells whether the outcome is what the case asks for.
func (o outcome) expected(tc cases.TestCase) bool {
	if tc.WantError != nil || tc.WantErrorCode != nil {
		return o.err != nil && meant(tc, o.err)
	}
	if o.err != nil || tc.WantResult == nil {
		return false
	}
	return wanted(*tc.WantResult).Equal(o.results)
}

func meant(tc cases.TestCase, err error) bool {
	var te *topdown.Error
	if !errors.As(err, &te) {
		return false
	}
	return (tc.WantErrorCode == nil || te.Code == *tc.WantErrorCode) &&
		(tc.WantError == nil || strings.Contains(err.Error(), *tc.WantError))
}

func wanted(solutions []map[string]any) *ast.Term {
	out := ast.NewSet()
	for _, s := range solutions {
		out.Add(ast.NewTerm(ast.MustInterfaceToValue(s)))
	}
	return ast.NewTerm(out)
}

func compile(tc cases.TestCase, version ast.RegoVersion) (*ast.Compiler, error) {
	opts := ast.ParserOptions{RegoVersion: version}
	if tc.ExperimentalKeywords {
		opts.Capabilities = ast.CapabilitiesForThisVersion(ast.CapabilitiesExperimentalKeywords(true))
	}
	modules := map[string]string{}
	for i, m := range tc.Modules {
		modules[fmt.Sprintf("test-%d.rego", i)] = m
	}
	return ast.CompileModulesWithOpt(modules, ast.CompileOpts{ParserOptions: opts})
}

func interpret(t *testing.T, tc cases.TestCase, c *ast.Compiler) outcome {
	query, err := c.QueryCompiler().Compile(ast.MustParseBody(tc.Query))
	if err != nil {
		return outcome{err: err}
	}
	store := inmem.New()
	if tc.Data != nil {
		store = inmem.NewFromObject(*tc.Data)
	}
	q := topdown.NewQuery(query).WithCompiler(c).WithStore(store).
		WithTransaction(storage.NewTransactionOrDie(t.Context(), store)).
		WithInput(inputOf(tc)).WithStrictBuiltinErrors(tc.StrictError)
	rs, err := q.Run(t.Context())
	if err != nil {
		return outcome{err: err}
	}
	var solutions []ast.Object
	for _, r := range rs {
		o := ast.NewObject()
		for k, v := range r {
			o.Insert(ast.StringTerm(string(k)), v)
		}
		solutions = append(solutions, o)
	}
	return outcome{results: normal(tc, solutions)}
}

func inputOf(tc cases.TestCase) *ast.Term {
	switch {
	case tc.InputTerm != nil:
		return ast.MustParseTerm(*tc.InputTerm)
	case tc.Input != nil:
		return ast.NewTerm(ast.MustInterfaceToValue(*tc.Input))
	}
	return nil
}

func run(ctx context.Context, tc cases.TestCase, p *compiled.Program) outcome {
	var data, input any = map[string]any{}, nil
	if tc.Data != nil {
		data = *tc.Data
	}
	switch {
	case tc.InputTerm != nil:
		input = value.FromAST(ast.MustParseTerm(*tc.InputTerm).Value)
	case tc.Input != nil:
		input = value.Defined(*tc.Input)
	}
	results, err := p.Run(ctx, input, data, compiled.NewShared(time.Now()))
	if err != nil {
		return outcome{err: err}
	}
	var solutions []ast.Object
	for _, r := range results {
		solutions = append(solutions, value.Term(r).Value.(ast.Object))
	}
	return outcome{results: normal(tc, solutions)}
}

// normal keeps of solutions what the cases compare: JSON, sorted if the case
// says so, and no generated variables.
func normal(tc cases.TestCase, solutions []ast.Object) *ast.Term {
	named := map[string]bool{}
	if tc.WantResult != nil {
		for _, s := range *tc.WantResult {
			for k := range s {
				named[k] = true
			}
		}
	}
	out := ast.NewSet()
	for _, s := range solutions {
		o := ast.NewObject()
		s.Foreach(func(k, v *ast.Term) {
			name := string(k.Value.(ast.String))
			if strings.HasPrefix(name, "__localq") || strings.HasPrefix(name, "__wasm") || !named[name] && strings.HasPrefix(name, "term") {
				return
			}
			j, err := ast.JSON(v.Value)
			if err != nil {
				panic(err)
			}
			if list, ok := j.([]any); ok && tc.SortBindings {
				slices.SortFunc(list, func(a, b any) int { return cmp.Compare(util.Compare(a, b), 0) })
			}
			o.Insert(k, ast.NewTerm(ast.MustInterfaceToValue(j)))
		})
		out.Add(ast.NewTerm(o))
	}
	return ast.NewTerm(out)
}
