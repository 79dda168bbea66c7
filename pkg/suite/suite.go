// Package suite runs policy tests offline: Gatekeeper's Suite files
// (test.gatekeeper.sh/v1alpha1), each of which names templates, constraints
// and objects and says what the constraints find in them. It is the door of the
// pipeline that is open before anything reaches a cluster: every case becomes a
// policy.Review for the engine that also serves admission and audit.
//
// A suite means here what it means to gator verify, Gatekeeper's own runner;
// docs/verify.md lists the few places where more is accepted or less is.
package suite

import (
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/fusegate/fusegate/pkg/output"
)

// Group and Kind identify a Suite. Any version of the group is accepted, as
// Gatekeeper does.
const (
	Group = "test.gatekeeper.sh"
	Kind  = "Suite"
)

// Suite is one test file.
type Suite struct {
	// Path is the file it was read from, in the form that Find was given.
	Path string
	Name string
	// Skip leaves the whole suite out.
	Skip  bool
	Tests []Test
	// Warnings are what was read without effect, such as fields that nobody
	// knows, each with its file and line.
	Warnings []string
}

// Test is a template and a constraint, with cases to judge by them.
type Test struct {
	Name string
	// Template, Constraint and Expansion are paths relative to the suite.
	Template, Constraint, Expansion string
	// Invalid expects the constraint to be refused or, if the test has none,
	// the template.
	Invalid bool
	Skip    bool
	Cases   []Case
	// Line is where the test begins in the suite's file.
	Line int
	// lines are those of the fields.
	lines map[string]int
}

// Case is an object and what the constraint finds in it.
type Case struct {
	Name string
	// Object is the path of the object, or of an AdmissionReview, relative to
	// the suite.
	Object string
	// Inventory are the paths of files with objects for data.inventory.
	Inventory  []string
	Assertions []Assertion
	Skip       bool
	// Line is where the case begins in the suite's file.
	Line  int
	lines map[string]int
}

// Files are the paths of all files that the suite's tests use, relative to it,
// sorted, each once.
func (s *Suite) Files() []string {
	var out []string
	for _, t := range s.Tests {
		out = append(out, t.Template, t.Constraint, t.Expansion)
		for _, c := range t.Cases {
			out = append(append(out, c.Object), c.Inventory...)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(f string) bool { return f == "" })
}

// parseSuite reads the Suite in a document of the file.
func parseSuite(file string, doc *yaml.Node) (*Suite, error) {
	r := &reader{file: file}
	s := &Suite{Path: file}
	r.mapping(doc, "", map[string]func(*yaml.Node, string){
		"apiVersion": ignore,
		"kind":       ignore,
		"name":       ignore, // gator reads metadata's fields beside tests, to no effect
		"metadata":   func(n *yaml.Node, _ string) { s.Name = nameIn(n) },
		"skip":       r.truth(&s.Skip),
		"tests": r.list(func(n *yaml.Node, at string) {
			s.Tests = append(s.Tests, r.test(n, at))
		}),
	})
	if s.Name == "" {
		s.Name = file
	}
	s.Warnings = r.warnings
	return s, errors.Join(r.errs...)
}

func (r *reader) test(n *yaml.Node, at string) Test {
	t := Test{Line: n.Line}
	t.lines = r.mapping(n, at, map[string]func(*yaml.Node, string){
		"name":       r.text(&t.Name),
		"template":   r.text(&t.Template),
		"constraint": r.text(&t.Constraint),
		"expansion":  r.text(&t.Expansion),
		"invalid":    r.truth(&t.Invalid),
		"skip":       r.truth(&t.Skip),
		"cases": r.list(func(n *yaml.Node, at string) {
			t.Cases = append(t.Cases, r.testCase(n, at))
		}),
	})
	if t.Expansion != "" {
		r.warn(n, "%s.expansion: objects are expanded here only; in the cluster nobody does, and what they imply is judged when it is created", at)
	}
	if t.Invalid && len(t.Cases) > 0 {
		r.warn(n, "%s has cases and invalid: true: the cases are not run", at)
	}
	return t
}

func (r *reader) testCase(n *yaml.Node, at string) Case {
	c := Case{Line: n.Line}
	c.lines = r.mapping(n, at, map[string]func(*yaml.Node, string){
		"name":   r.text(&c.Name),
		"object": r.text(&c.Object),
		"skip":   r.truth(&c.Skip),
		"inventory": r.list(func(n *yaml.Node, at string) {
			var file string
			r.text(&file)(n, at)
			c.Inventory = append(c.Inventory, file)
		}),
		"assertions": r.list(func(n *yaml.Node, at string) {
			c.Assertions = append(c.Assertions, r.assertion(n, at))
		}),
	})
	return c
}

func (r *reader) assertion(n *yaml.Node, at string) Assertion {
	a := Assertion{Line: n.Line, AtLeast: 1, AtMost: Unlimited}
	r.mapping(n, at, map[string]func(*yaml.Node, string){
		"violations": func(n *yaml.Node, at string) {
			if err := a.want(n); err != nil {
				r.fail(n, "%s: %w", at, err)
			}
		},
		"message": func(n *yaml.Node, at string) {
			if err := a.match(n); err != nil {
				r.fail(n, "%s: %w", at, err)
			}
		},
	})
	return a
}

// reader collects what is wrong with a suite while its nodes are read, so that
// one run tells it all.
type reader struct {
	file     string
	warnings []string
	errs     []error
}

func ignore(*yaml.Node, string) {}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, output.Problem{File: r.file, Line: n.Line, Err: fmt.Errorf(format, args...)})
}

func (r *reader) warn(n *yaml.Node, format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf("%s:%d: %s", r.file, n.Line, fmt.Sprintf(format, args...)))
}

// mapping reads the fields of n, which are at the path at, and returns their
// lines. Null stands for no fields.
func (r *reader) mapping(n *yaml.Node, at string, fields map[string]func(*yaml.Node, string)) map[string]int {
	lines := map[string]int{}
	n = resolve(n)
	if isNull(n) {
		return lines
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s: want fields, got %s", at, describe(n))
		return lines
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		path := join(at, key.Value)
		if _, twice := lines[key.Value]; twice {
			r.fail(key, "%s is there twice", path)
			continue
		}
		lines[key.Value] = key.Line
		read, known := fields[key.Value]
		if !known {
			r.warn(key, "%s is no field of a Suite: ignored", path)
			continue
		}
		read(value, path)
	}
	return lines
}

func (r *reader) list(item func(*yaml.Node, string)) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		if isNull(n) {
			return
		}
		if n.Kind != yaml.SequenceNode {
			r.fail(n, "%s: want a list, got %s", at, describe(n))
			return
		}
		for i, e := range n.Content {
			item(resolve(e), fmt.Sprintf("%s[%d]", at, i))
		}
	}
}

func (r *reader) text(out *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		if n.Kind != yaml.ScalarNode {
			r.fail(n, "%s: want text, got %s", at, describe(n))
			return
		}
		if !isNull(n) {
			*out = n.Value
		}
	}
}

func (r *reader) truth(out *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, at string) {
		if isNull(n) {
			return
		}
		if err := n.Decode(out); err != nil {
			r.fail(n, "%s: want true or false, got %s", at, describe(n))
		}
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", n.Value)
}

// nameIn is the field name of n, if it is there.
func nameIn(n *yaml.Node) string {
	var named struct {
		Name string `yaml:"name"`
	}
	if err := n.Decode(&named); err != nil {
		return ""
	}
	return named.Name
}
