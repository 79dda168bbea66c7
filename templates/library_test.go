// Package templates_test judges the library's samples by its templates through
// the real engine, as the suites say, and keeps the library uniform.
package templates_test

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// TestSuites runs templates/*/suite.yaml.
func TestSuites(t *testing.T) {
	for _, folder := range folders(t) {
		t.Run(folder, func(t *testing.T) {
			for _, test := range readSuite(t, folder).Tests {
				t.Run(test.Name, func(t *testing.T) { runTest(t, folder, test) })
			}
		})
	}
}

func runTest(t *testing.T, folder string, test suiteTest) {
	e := newEngine(t, path.Join(folder, test.Template), path.Join(folder, test.Constraint))
	for _, c := range test.Cases {
		t.Run(c.Name, func(t *testing.T) { runCase(t, e, folder, c) })
	}
}

func runCase(t *testing.T, e *engine.Engine, folder string, c suiteCase) {
	var inventory []string
	for _, file := range c.Inventory {
		inventory = append(inventory, path.Join(folder, file))
	}
	got := withInventory(t, e, review(t, path.Join(folder, c.Object)), inventory)
	if len(got.Faults) > 0 {
		t.Errorf("the policy failed:\n%s", lines(got))
	}
	for i, a := range c.Assertions {
		if err := a.check(got.Violations); err != nil {
			t.Errorf("assertions[%d]: %v:\n%s", i, err, lines(got))
		}
	}
}

// check returns how the violations differ from what a says.
func (a assertion) check(violations []policy.Violation) error {
	message, err := regexp.Compile(a.Message)
	if err != nil {
		return err
	}
	got := 0
	for _, v := range violations {
		if message.MatchString(v.Message) {
			got++
		}
	}
	return a.compare(got)
}

func (a assertion) compare(got int) error {
	switch want := a.Violations.(type) {
	case nil:
		return a.wrongIf(got == 0, got)
	case bool:
		return a.wrongIf(want != (got > 0), got)
	case string:
		return a.wrongIf((want == "yes") != (got > 0), got)
	case float64:
		return a.wrongIf(float64(got) != want, got)
	}
	return fmt.Errorf("violations: %v is none of yes, no and a number", a.Violations)
}

func (a assertion) wrongIf(wrong bool, got int) error {
	if !wrong {
		return nil
	}
	return fmt.Errorf("%d violations match %q, want %v", got, a.Message, a.Violations)
}

// TestSamples judges the samples by samples/constraint.yaml: what is named
// allowed passes, and what is named disallowed does not. The samples named
// inventory are there for all of them.
func TestSamples(t *testing.T) {
	for _, folder := range folders(t) {
		t.Run(folder, func(t *testing.T) {
			e := newEngine(t, path.Join(folder, "template.yaml"), path.Join(folder, "samples/constraint.yaml"))
			inventory := samples(t, folder, "inventory")
			for _, name := range samples(t, folder, "allowed") {
				got := withInventory(t, e, review(t, name), inventory)
				if len(got.Violations)+len(got.Faults) > 0 {
					t.Errorf("%s: want it allowed:\n%s", name, lines(got))
				}
			}
			for _, name := range samples(t, folder, "disallowed") {
				got := withInventory(t, e, review(t, name), inventory)
				if len(got.Violations) == 0 || len(got.Faults) > 0 {
					t.Errorf("%s: want it disallowed:\n%s", name, lines(got))
				}
			}
		})
	}
}

// samples returns the paths of the samples whose name begins with prefix.
func samples(t *testing.T, folder, prefix string) []string {
	t.Helper()
	var out []string
	for _, name := range sampleFiles(t, folder) {
		if strings.HasPrefix(path.Base(name), prefix) {
			out = append(out, name)
		}
	}
	return out
}
