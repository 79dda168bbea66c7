package engine_test

import (
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	framework  = "github.com/open-policy-agent/frameworks/constraint"
	parityPage = "../../docs/design/002-framework-parity.md"
)

// parityFolders are the folders of the framework, with those below, whose tests
// the page answers for.
var parityFolders = []string{"client", "regorewriter"}

var (
	parityRow    = regexp.MustCompile("(?m)^\\| (\\S+_test\\.go) \\| `(Test\\w+)` \\| [^|]+ \\| ([^|]+) \\|$")
	parityDigest = regexp.MustCompile(`(?m)^\| (\S+_test\.go) \| ([0-9a-f]+) \|$`)
	parityOurs   = regexp.MustCompile(`\b([a-z]+)\.(Test\w+)`)
)

// TestFrameworkParityPage keeps the page about the framework's tests complete
// and true.
func TestFrameworkParityPage(t *testing.T) {
	content, err := os.ReadFile(parityPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	theirs, digests := frameworkTests(t)
	listed := map[string]bool{}
	for _, row := range parityRow.FindAllStringSubmatch(page, -1) {
		name := row[1] + " " + row[2]
		if listed[name] {
			t.Errorf("the page lists %s twice", name)
		}
		listed[name] = true
		if !theirs[name] {
			t.Errorf("the page lists %s, which the framework has not", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		if !listed[name] {
			t.Errorf("%s is not listed in %s: assert of ours what it asserts, or say why not", name, parityPage)
		}
	}
	checkDigests(t, page, digests)
	checkOurTests(t, page)
}

// frameworkTests returns the names ("file function") of the framework's test
// functions and the digests of the files that hold them.
func frameworkTests(t *testing.T) (names map[string]bool, digests map[string]string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", framework).Output()
	if err != nil {
		t.Fatalf("finding %s: %v", framework, err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "pkg")
	names, digests = map[string]bool{}, map[string]string{}
	for _, folder := range parityFolders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			relative, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			file := filepath.ToSlash(relative)
			for _, name := range testFunctions(t, path) {
				names[file+" "+name] = true
				digests[file] = digest(t, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(names) < 50 {
		t.Fatalf("found only %d tests below %s: the test looks in the wrong folder", len(names), root)
	}
	return names, digests
}

func digest(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))[:12]
}

// testFunctions returns the names of a file's test functions.
func testFunctions(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
			names = append(names, f.Name.Name)
		}
	}
	return names
}

// checkDigests compares the framework's test files with those that were read.
func checkDigests(t *testing.T, page string, digests map[string]string) {
	t.Helper()
	read := map[string]string{}
	for _, row := range parityDigest.FindAllStringSubmatch(page, -1) {
		read[row[1]] = row[2]
	}
	for _, file := range slices.Sorted(maps.Keys(digests)) {
		if read[file] != digests[file] {
			t.Errorf("%s has changed since it was read: look at it again, then put into %s\n| %s | %s |", file, parityPage, file, digests[file])
		}
		delete(read, file)
	}
	for file := range read {
		t.Errorf("the page has a digest of %s, which the framework has not", file)
	}
}

// checkOurTests looks for the tests of ours that the page names as
// package.TestName.
func checkOurTests(t *testing.T, page string) {
	t.Helper()
	held := map[string][]string{}
	named := parityOurs.FindAllStringSubmatch(page, -1)
	if len(named) == 0 {
		t.Error("the page names no test of ours")
	}
	for _, name := range named {
		if _, ok := held[name[1]]; !ok {
			held[name[1]] = ourTests(t, name[1])
		}
		if !slices.Contains(held[name[1]], name[2]) {
			t.Errorf("the page names %s, which package %s has not", name[0], name[1])
		}
	}
	for _, row := range parityRow.FindAllStringSubmatch(page, -1) {
		if !parityOurs.MatchString(row[3]) && !strings.HasPrefix(row[3], "no") {
			t.Errorf("%s: the page names neither a test of ours nor a reason why there is none", row[2])
		}
	}
}

func ourTests(t *testing.T, pkg string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range paths {
		names = append(names, testFunctions(t, path)...)
	}
	return names
}
