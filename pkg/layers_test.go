// Package pkg_test keeps Fusegate's layers apart. It parses every Go file of
// the main module and compares its imports with the table below, which is the
// truth that the architecture page follows: values, then pure functions, then
// the engine, then the edges, then cmd. The rules that the table cannot express
// are in rules_test.go.
package pkg_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path of the main module. What it holds is "ours" here.
const module = "github.com/fusegate/fusegate"

// row says what one package may import of ours. Folders are relative to the
// root of the repository.
type row struct {
	// all lifts the limit: for what puts everything together.
	all bool
	// imports are what any file of the package may import.
	imports []string
	// tests are what its test files may import beside imports, the package
	// itself and what every test may import (forTests).
	tests []string
}

// layers maps the folder of each package to its row. A package that is not here
// is an error, so that adding one is a decision somebody sees.
var layers = map[string]row{
	"pkg": {}, // This test.

	// Values and files. They import nothing of ours.
	"apis/v1alpha1": {},
	"manifests":     {},
	"templates":     {tests: []string{"pkg/policy", "pkg/engine", "pkg/output", "pkg/suite"}},
	"pkg/printable": {},
	"pkg/policy":    {imports: []string{"pkg/printable"}}, // bounds are on what is shown
	"pkg/output":    {imports: []string{"apis/v1alpha1", "pkg/policy", "pkg/printable"}},
	"pkg/rawjson":   {},
	"pkg/manifest":  {imports: []string{"pkg/output"}},
	"pkg/catalog":   {},
	"pkg/timing":    {},
	"pkg/notify":    {},
	"pkg/fair":      {},
	"pkg/gap":       {},

	// Pure functions.
	"pkg/match":  {imports: []string{"pkg/policy"}},
	"pkg/exempt": {imports: []string{"pkg/policy"}},
	"pkg/config": {imports: []string{"pkg/exempt"}},
	"pkg/rego": {imports: []string{
		"pkg/printable", "pkg/policy", "pkg/rego/value", "pkg/rego/tree", "pkg/rego/plan", "pkg/rego/cost", "pkg/rego/exec",
	}, tests: []string{"templates"}},
	"pkg/intercept": {imports: []string{"pkg/printable", "pkg/policy", "pkg/match", "pkg/exempt"}},
	"pkg/doctor":    {imports: []string{"pkg/exempt", "pkg/intercept"}},

	// The parts of pkg/rego: what compiled Rego works on, what is stored
	// for it, and how it is planned and run.
	"pkg/rego/value": {},
	"pkg/rego/tree":  {imports: []string{"pkg/rego/value"}},
	"pkg/rego/plan":  {},
	"pkg/rego/cost":  {imports: []string{"pkg/rego/value"}},
	"pkg/rego/exec":  {imports: []string{"pkg/rego/value", "pkg/rego/cost"}, tests: []string{"pkg/rego/plan"}},

	// The compiler of Rego in a process of its own.
	"pkg/compiler": {imports: []string{"pkg/printable", "pkg/rego"}, tests: []string{"templates"}},

	// The engine and what feeds it.
	"pkg/engine":    {imports: []string{"pkg/policy", "pkg/match", "pkg/rego"}, tests: []string{"pkg/rego/exec"}},
	"pkg/policies":  {imports: []string{"pkg/engine", "pkg/manifest", "pkg/output"}, tests: []string{"pkg/policy"}},
	"pkg/trial":     {imports: []string{"pkg/policy", "pkg/match", "pkg/engine", "pkg/manifest", "pkg/output", "pkg/policies", "pkg/printable"}, tests: []string{"templates"}},
	"pkg/inventory": {imports: []string{"pkg/timing", "pkg/policy", "pkg/engine", "pkg/notify"}, tests: []string{"manifests"}},

	// The edges.
	"pkg/webhook":    {imports: []string{"pkg/printable", "pkg/policy", "pkg/fair", "pkg/gap", "pkg/exempt", "pkg/engine", "pkg/rawjson"}},
	"pkg/audit":      {imports: []string{"apis/v1alpha1", "pkg/printable", "pkg/policy", "pkg/catalog", "pkg/output", "pkg/exempt", "pkg/config", "pkg/engine", "pkg/rawjson", "pkg/notify", "pkg/timing"}},
	"pkg/report":     {imports: []string{"apis/v1alpha1", "pkg/printable", "pkg/policy", "pkg/config", "pkg/audit"}, tests: []string{"manifests", "pkg/engine", "pkg/exempt", "pkg/timing"}},
	"pkg/status":     {imports: []string{"apis/v1alpha1", "pkg/printable", "pkg/policy"}, tests: []string{"manifests"}},
	"pkg/controller": {imports: []string{"pkg/timing", "pkg/gap", "apis/v1alpha1", "pkg/policy", "pkg/engine", "pkg/inventory", "pkg/status", "pkg/notify"}, tests: []string{"manifests"}},
	"pkg/install":    {imports: []string{"pkg/timing", "apis/v1alpha1", "pkg/match", "pkg/exempt", "pkg/config", "pkg/intercept", "manifests"}, tests: []string{"pkg/policy", "pkg/webhook"}},
	"pkg/canary":     {imports: []string{"pkg/timing", "apis/v1alpha1", "pkg/notify"}, tests: []string{"pkg/engine", "pkg/exempt", "pkg/config", "pkg/install", "pkg/webhook"}},
	"pkg/fuse":       {imports: []string{"apis/v1alpha1", "pkg/canary"}},
	"pkg/suite":      {imports: []string{"pkg/policy", "pkg/engine", "pkg/output"}},
	"pkg/lint":       {imports: []string{"pkg/engine", "pkg/rego", "pkg/manifest", "pkg/output", "pkg/suite"}},
	"pkg/bench":      {imports: []string{"pkg/policy", "pkg/engine", "pkg/manifest", "pkg/output", "pkg/policies", "pkg/suite", "pkg/trial"}},
	"pkg/scaffold":   {tests: []string{"pkg/lint", "pkg/output", "pkg/suite"}},

	// The webhook's certificate: made on the leader, presented by the webhook.
	"pkg/servingcert": {imports: []string{"pkg/timing"}},

	// A real control plane. Only tests and hack stand on it.
	"test/controlplane": {},
	"test/env":          {imports: []string{"test/controlplane"}},
	"test/e2e":          {tests: []string{"apis/v1alpha1", "templates", "pkg/engine", "pkg/policy", "test/env/fusegate"}},
	"test/install":      {tests: []string{"pkg/exempt", "pkg/config", "pkg/install", "test/env/fusegate"}},
	"test/perimeter":    {tests: []string{"pkg/exempt", "pkg/install", "test/env/fusegate"}},
	"test/faults":       {tests: []string{"pkg/install", "test/env/fusegate"}},
	"test/soak":         {tests: []string{"test/env/fusegate"}},
	"test/env/fusegate": {imports: []string{"pkg/timing", "cmd/fusegate/app", "pkg/engine", "pkg/webhook", "test/controlplane", "test/env"}},

	"cmd/fusegate":     {imports: []string{"cmd/fusegate/app"}},
	"cmd/fusegate/app": {all: true},
	"hack/bench":       {all: true},
	"hack/bench-audit": {all: true},
	"hack/bench-test":  {all: true},
	"hack/demo":        {all: true},
	"hack/replay":      {all: true},
	"hack/rig":         {all: true},
}

// forTests is what the test files of every package may import.
var forTests = []string{"test/controlplane", "test/env"}

// source is one parsed file; its path is relative to the root, with slashes.
type source struct {
	path string
	fset *token.FileSet
	file *ast.File
}

func (s source) dir() string  { return path.Dir(s.path) }
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// inCmd tells whether the file belongs to a command, which may read flags and
// the environment and end the process.
func (s source) inCmd() bool {
	return strings.HasPrefix(s.path, "cmd/") || strings.HasPrefix(s.path, "hack/")
}

// finding says what is wrong at a place in the file.
func (s source) finding(at ast.Node, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.path, s.fset.Position(at.Pos()).Line, fmt.Sprintf(format, args...))
}

// TestLayers checks the repository itself.
func TestLayers(t *testing.T) {
	sources, err := parseTree(os.DirFS(".."))
	if err != nil {
		t.Fatalf("parsing the module: %v", err)
	}
	if len(sources) == 0 {
		t.Fatal("no Go file found: the test looks in the wrong folder")
	}
	for _, finding := range check(layers, sources) {
		t.Error(finding)
	}
}

// TestTable checks that the table speaks only of packages it lists.
func TestTable(t *testing.T) {
	for dir, r := range layers {
		for _, imported := range slices.Concat(r.imports, r.tests, forTests) {
			if _, ok := layers[imported]; !ok {
				t.Errorf("row %s allows %s, which has no row", dir, imported)
			}
		}
	}
}

// check applies every rule to every file and package and returns what is wrong,
// in a stable order.
func check(table map[string]row, sources []source) []string {
	packages := map[string][]source{}
	var findings []string
	for _, s := range sources {
		packages[s.dir()] = append(packages[s.dir()], s)
		findings = append(findings, checkFile(table, s)...)
	}
	for dir, files := range packages {
		findings = append(findings, checkPackage(table, dir, files)...)
	}
	slices.Sort(findings)
	return findings
}

func checkFile(table map[string]row, s source) []string {
	return slices.Concat(checkOurs(table, s), checkForeign(s), checkName(s), checkAmbient(s))
}

func checkPackage(table map[string]row, dir string, files []source) []string {
	return slices.Concat(checkListed(table, dir), checkComment(dir, files))
}

// checkOurs compares the file's imports of this module with the package's row.
// A package without a row is reported by checkListed.
func checkOurs(table map[string]row, s source) []string {
	r, ok := table[s.dir()]
	if !ok || r.all {
		return nil
	}
	allowed := r.imports
	if s.isTest() {
		allowed = slices.Concat(r.imports, r.tests, forTests, []string{s.dir()})
	}
	var findings []string
	for _, spec := range s.file.Imports {
		imported, ours := strings.CutPrefix(importPath(spec), module+"/")
		if ours && !slices.Contains(allowed, imported) {
			findings = append(findings, s.finding(spec,
				"%s may not import %s, only [%s]: see the table in pkg/layers_test.go",
				s.dir(), imported, strings.Join(allowed, " ")))
		}
	}
	return findings
}

func checkListed(table map[string]row, dir string) []string {
	if _, ok := table[dir]; ok {
		return nil
	}
	return []string{fmt.Sprintf("%s: package has no row in the table in pkg/layers_test.go: add one, or put the code where it belongs", dir)}
}

// importPath is the unquoted path of an import. The parser has checked it.
func importPath(spec *ast.ImportSpec) string {
	p, _ := strconv.Unquote(spec.Path.Value)
	return p
}

// parseTree parses every Go file below the root that belongs to the main module.
func parseTree(root fs.FS) ([]source, error) {
	var sources []source
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipDir(root, name)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		s, err := parse(name, content)
		sources = append(sources, s)
		return err
	})
	return sources, err
}

// skipDir leaves out what the go command leaves out of ./... : hidden folders,
// testdata, and modules of their own.
func skipDir(root fs.FS, name string) error {
	if name == "." {
		return nil
	}
	base := path.Base(name)
	if base[0] == '.' || base[0] == '_' || base == "testdata" || base == "vendor" {
		return fs.SkipDir
	}
	_, err := fs.Stat(root, path.Join(name, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fs.SkipDir
}

func parse(name string, content []byte) (source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, content, parser.ParseComments|parser.SkipObjectResolution)
	return source{path: filepath.ToSlash(name), fset: fset, file: file}, err
}
