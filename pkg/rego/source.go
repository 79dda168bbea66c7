package rego

import (
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego/schema"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
	"github.com/open-policy-agent/frameworks/constraint/pkg/regorewriter"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/cost"
)

// What a template may refer to outside itself, as in Gatekeeper: libraries
// that it brings, and the inventory of synced objects.
const (
	libRoot       = "data.lib"
	inventoryRoot = "data.inventory"
	entryRule     = "violation"
)

// capabilities are OPA's, with the builtins of the list in package cost alone, and
// without any hosts. Templates cannot call those that do network input or output
// in the request path (http.send, net.lookup_ip_addr), those that read files
// (json.match_schema, json.verify_schema: a schema's $ref may be a file: or http:
// URL, and the schema may come from the object), the one that reads the process's
// configuration and environment (opa.runtime), and what a new version of OPA adds
// before it has a check.
var capabilities = sync.OnceValue(func() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	caps.AllowNet = []string{}
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool { return !cost.Allowed(b.Name) })
	return caps
})

// yield lets whatever waits for a processor go first. A template takes
// milliseconds to compile, and a goroutine keeps its processor for up to ten:
// reviews would wait behind it.
func yield() { runtime.Gosched() }

// compileSource parses the template's Rego, checks that it stays inside the
// sandbox and compiles it, without its calls of print unless they are asked
// for. The entry rule is then data.template.violation.
func compileSource(src *schema.Source, prints bool) (*ast.Compiler, error) {
	modules, err := sandboxed(src)
	if err != nil {
		return nil, err
	}
	return compileModules(modules, prints)
}

// sandboxed parses the template's Rego and checks that it stays inside the
// sandbox.
func sandboxed(src *schema.Source) (map[string]*ast.Module, error) {
	entry, libs, err := parse(src)
	if err != nil {
		return nil, err
	}
	if err := check(entry, libs); err != nil {
		return nil, err
	}
	return rewrite(entry, libs)
}

// compileModules compiles modules, which it does not change.
func compileModules(modules map[string]*ast.Module, prints bool) (*ast.Compiler, error) {
	c := ast.NewCompiler().WithCapabilities(capabilities()).WithEnablePrintStatements(prints)
	for _, stage := range ast.AllStages() {
		c.WithStageAfterID(stage, ast.CompilerStageDefinition{Name: "Yield", MetricName: "yield", Stage: func(*ast.Compiler) *ast.Error {
			yield()
			return nil
		}})
	}
	c.Compile(modules)
	if c.Failed() {
		return nil, diagnose(c.Errors)
	}
	return c, nil
}

func regoSource(t *templates.ConstraintTemplate) (*schema.Source, error) {
	if n := len(t.Spec.Targets); n != 1 {
		return nil, sourceError("spec.targets must hold exactly one target, got %d", n)
	}
	for _, code := range t.Spec.Targets[0].Code {
		if code.Engine != schema.Name {
			continue
		}
		if code.Source == nil {
			return nil, sourceError("spec.targets[0].code, engine %s: it has no source", schema.Name)
		}
		src, err := schema.GetSource(code)
		if err != nil {
			return nil, sourceError("spec.targets[0].code, engine %s: %v", schema.Name, err)
		}
		return src, nil
	}
	return nil, sourceError("spec.targets[0] has no Rego: set its field rego, or add an entry with engine %s to its field code", schema.Name)
}

func parse(src *schema.Source) (*ast.Module, []*ast.Module, error) {
	opts := ast.ParserOptions{RegoVersion: ast.RegoV0, Capabilities: capabilities()}
	if src.Version == "v1" {
		opts.RegoVersion = ast.RegoV1
	}
	entry, err := parseModule("rego", src.Rego, opts)
	if err != nil {
		return nil, nil, err
	}
	libs := make([]*ast.Module, 0, len(src.Libs))
	for i, text := range src.Libs {
		lib, err := parseModule(fmt.Sprintf("libs[%d]", i), text, opts)
		if err != nil {
			return nil, nil, err
		}
		libs = append(libs, lib)
	}
	return entry, libs, nil
}

func parseModule(name, text string, opts ast.ParserOptions) (*ast.Module, error) {
	yield()
	m, err := ast.ParseModuleWithOpts(name, text, opts)
	if err != nil {
		return nil, diagnose(err)
	}
	if m == nil {
		return nil, Diagnostics{{
			Code: CodeSource, Message: "empty Rego: it needs at least a package line and a rule", Location: name + ":1:1",
		}}
	}
	return m, nil
}

// rewrite moves the entry point to the package "template" and the libraries
// below "libs", so that no template can name another's package. The framework's
// rewriter enforces the sandbox once more while it does so.
func rewrite(entry *ast.Module, libs []*ast.Module) (map[string]*ast.Module, error) {
	rw, err := regorewriter.New(regorewriter.NewPackagePrefixer("libs"), []string{libRoot}, []string{inventoryRoot})
	if err != nil {
		return nil, sourceError("creating the import sandbox: %v", err)
	}
	entry.Package.Path = ast.MustParseRef("data.template")
	rw.AddEntryPointModule("rego", entry)
	for i, lib := range libs {
		if err := rw.AddLib(fmt.Sprintf("libs[%d]", i), lib); err != nil {
			return nil, sourceError("libs[%d]: %v", i, err)
		}
	}
	if _, err := rw.Rewrite(); err != nil {
		return nil, sourceError("%v", err)
	}
	modules := map[string]*ast.Module{"rego": entry}
	for i, lib := range libs {
		modules[fmt.Sprintf("libs[%d]", i)] = lib
	}
	for _, m := range modules {
		rewriteNested(m)
	}
	return modules, nil
}

// rewriteNested moves the references to libraries that the framework's rewriter
// leaves alone because they stand inside another term, as in [data.lib.a.b].
// They would be undefined, and the rule around them silently without effect.
func rewriteNested(m *ast.Module) {
	prefixer := regorewriter.NewPackagePrefixer("libs")
	for _, rule := range m.Rules {
		ast.WalkTerms(rule, func(t *ast.Term) bool {
			if ref, ok := t.Value.(ast.Ref); ok && ref.HasPrefix(libRef) {
				t.Value = prefixer.Transform(ref)
			}
			return false
		})
	}
}
