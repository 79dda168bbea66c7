package pkg_test

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// fence keeps a module outside of Fusegate in, or out of, some packages.
type fence struct {
	module string
	// only lists the folders that may import it, with everything below them.
	// When it is empty, all may but those in never.
	only []string
	// never lists the folders that may not.
	never []string
	// tests lets test files import it from anywhere.
	tests bool
	why   string
}

// pure are the packages that must stay usable without a cluster.
var pure = []string{"pkg/policy", "pkg/match", "pkg/exempt", "pkg/config", "pkg/rego"}

var fences = []fence{
	{module: "github.com/open-policy-agent/opa", only: []string{"pkg/rego"}, why: "OPA is an implementation detail of the Rego driver"},
	{module: "github.com/spf13/cobra", only: []string{"cmd"}, why: "the command line belongs to cmd"},
	{module: "github.com/spf13/viper", only: []string{"cmd"}, why: "configuration is read by cmd and passed on as values"},
	{module: "github.com/spf13/pflag", only: []string{"cmd"}, why: "flags belong to cmd"},
	{module: "flag", only: []string{"cmd", "hack"}, tests: true, why: "flags belong to cmd"},
	{module: module + "/test", only: []string{"test", "hack"}, tests: true, why: "the product does not carry what its tests stand on"},
	{module: "k8s.io/client-go", never: pure, why: "values and pure functions talk to no cluster"},
	{module: "sigs.k8s.io/controller-runtime", never: pure, why: "values and pure functions talk to no cluster"},
}

// ambient are the functions that reach for the process's surroundings or end
// it, by import path. A name ending in "*" is a prefix.
var ambient = map[string][]string{
	"os":             {"Exit", "Getenv", "LookupEnv", "Environ", "Expand*", "UserCacheDir", "UserConfigDir", "UserHomeDir"},
	"syscall":        {"Exit", "Getenv", "Environ"},
	"log":            {"Fatal*"},
	"k8s.io/klog/v2": {"Fatal*", "Exit*"},
}

// readsEnvironment are the folders outside cmd that may use what ambient lists,
// save for ending the process: they find the control plane's binaries, and run
// processes.
var readsEnvironment = []string{"test/controlplane", "test/env/fusegate"}

// banned are the names that say nothing about what a package is for.
var banned = []string{"common", "helper", "helpers", "misc", "types", "util", "utils"}

// checkForeign reports imports across a fence.
func checkForeign(s source) []string {
	var findings []string
	for _, spec := range s.file.Imports {
		for _, f := range fences {
			if within(importPath(spec), f.module) && !f.admits(s) {
				findings = append(findings, s.finding(spec, "%s may not import %s: %s", s.dir(), importPath(spec), f.why))
			}
		}
	}
	return findings
}

func (f fence) admits(s source) bool {
	if f.tests && s.isTest() {
		return true
	}
	inside := func(folder string) bool { return within(s.dir(), folder) }
	if len(f.only) > 0 {
		return slices.ContainsFunc(f.only, inside)
	}
	return !slices.ContainsFunc(f.never, inside)
}

// within reports whether a slash-separated path is the parent or below it.
func within(child, parent string) bool {
	return child == parent || strings.HasPrefix(child, parent+"/")
}

// checkName reports a package whose name says nothing.
func checkName(s source) []string {
	name := strings.TrimSuffix(s.file.Name.Name, "_test")
	for _, n := range []string{name, path.Base(s.dir())} {
		if slices.Contains(banned, n) {
			return []string{s.finding(s.file.Name, "no package is named %s: name it after what it provides", n)}
		}
	}
	return nil
}

// checkAmbient reports what reads the environment or ends the process outside
// cmd. Tests are free: TestMain may exit, and t.Setenv needs a counterpart.
func checkAmbient(s source) []string {
	if s.inCmd() || s.isTest() {
		return nil
	}
	names := localNames(s.file)
	var findings []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && reaches(s, names[x.Name], sel.Sel.Name) {
			findings = append(findings, s.finding(sel,
				"%s.%s outside cmd: return an error, or take the value as an option", x.Name, sel.Sel.Name))
		}
		return true
	})
	return append(findings, checkDotImports(s)...)
}

// checkDotImports reports imports that would hide a use from checkAmbient.
func checkDotImports(s source) []string {
	var findings []string
	for _, spec := range s.file.Imports {
		if spec.Name != nil && spec.Name.Name == "." && ambient[importPath(spec)] != nil {
			findings = append(findings, s.finding(spec, "dot import of %s hides what it is used for", importPath(spec)))
		}
	}
	return findings
}

// reaches reports whether the function is one that this file may not use.
func reaches(s source, importPath, function string) bool {
	listed := slices.ContainsFunc(ambient[importPath], func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return function == pattern || open && strings.HasPrefix(function, prefix)
	})
	if !listed {
		return false
	}
	ends := function == "Exit" || importPath != "os"
	return ends || !slices.Contains(readsEnvironment, s.dir())
}

// localNames maps the name under which a file knows an import to its path.
func localNames(file *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range file.Imports {
		p := importPath(spec)
		if spec.Name != nil {
			names[spec.Name.Name] = p
			continue
		}
		names[defaultName(p)] = p
	}
	return names
}

// defaultName is the last element of an import path that is not a version: the
// name of every package that ambient lists.
func defaultName(importPath string) string {
	base := path.Base(importPath)
	if version, ok := strings.CutPrefix(base, "v"); ok {
		if _, err := strconv.Atoi(version); err == nil {
			return path.Base(path.Dir(importPath))
		}
	}
	return base
}

// checkComment reports a package without a package comment. The comment of a
// test file counts only where there is nothing but tests.
func checkComment(dir string, files []source) []string {
	code := slices.DeleteFunc(slices.Clone(files), source.isTest)
	if len(code) == 0 {
		code = files
	}
	if slices.ContainsFunc(code, hasPackageComment) {
		return nil
	}
	return []string{fmt.Sprintf("%s: no package comment: say what the package is for and where it stands in the pipeline", dir)}
}

// hasPackageComment knows godoc's form; that of a command may start as it likes.
func hasPackageComment(s source) bool {
	name, text := s.file.Name.Name, s.file.Doc.Text()
	if name == "main" {
		return text != ""
	}
	return strings.HasPrefix(text, "Package "+name+" ")
}
