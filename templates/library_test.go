// Package templates_test judges the library's samples by its templates through
// the real engine, as the suites say, and keeps the library uniform.
package templates_test

import (
	"path"
	"strings"
	"testing"

	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/suite"
	"github.com/fusegate/fusegate/templates"
)

// What the library has at least, lest a part of it goes unseen.
const (
	minTemplates = 33
	minAllCases  = 600
)

// TestSuites runs templates/*/suite.yaml.
func TestSuites(t *testing.T) {
	var all []*suite.Suite
	for _, folder := range folders(t) {
		all = append(all, readSuite(t, folder))
	}
	ran := runAll(t, all)
	if len(all) < minTemplates || ran < minAllCases {
		t.Errorf("%d suites with %d cases, want at least %d and %d", len(all), ran, minTemplates, minAllCases)
	}
}

// runAll runs the suites, says which cases fail, and returns how many were run.
func runAll(t *testing.T, all []*suite.Suite) int {
	t.Helper()
	var out strings.Builder
	p, ran := &output.Printer{Out: &out}, 0
	r := &suite.Runner{Files: templates.FS}
	err := r.Run(t.Context(), all, func(s *output.Suite) {
		if s.Outcome() != output.Passed {
			t.Errorf("%s does not pass", s.Path)
		}
		if err := p.Suite(s); err != nil {
			t.Error(err)
		}
		for _, test := range s.Tests {
			for _, c := range test.Cases {
				if c.Skipped {
					t.Errorf("%s:%d: the case is skipped", s.Path, c.Line)
				}
				ran++
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.Log(out.String())
	}
	return ran
}

// TestSamples judges the samples by samples/constraint.yaml: what is named
// allowed passes, and what is named disallowed does not. The samples named
// inventory are there for all of them.
func TestSamples(t *testing.T) {
	var all []*suite.Suite
	for _, folder := range folders(t) {
		test := suite.Test{Name: "samples", Template: "template.yaml", Constraint: "samples/constraint.yaml"}
		test.Cases = append(
			sampleCases(t, folder, "allowed", suite.Assertion{}),
			sampleCases(t, folder, "disallowed", suite.Assertion{AtLeast: 1, AtMost: suite.Unlimited})...)
		all = append(all, &suite.Suite{Path: path.Join(folder, "samples.yaml"), Tests: []suite.Test{test}})
	}
	runAll(t, all)
}

func sampleCases(t *testing.T, folder, prefix string, want suite.Assertion) []suite.Case {
	t.Helper()
	var inventory []string
	for _, name := range samples(t, folder, "inventory") {
		inventory = append(inventory, strings.TrimPrefix(name, folder+"/"))
	}
	var out []suite.Case
	for _, name := range samples(t, folder, prefix) {
		out = append(out, suite.Case{
			Name: path.Base(name), Object: strings.TrimPrefix(name, folder+"/"),
			Inventory: inventory, Assertions: []suite.Assertion{want},
		})
	}
	return out
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
