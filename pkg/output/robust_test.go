package output_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
)

// jenkins is what the schema of Jenkins allows (jenkinsci/xunit-plugin, junit-10.xsd):
// the attributes of an element, required ones first up to a bar, and what may be in
// it. Beside that, testcases have file and line, as those of pytest do, and a run
// counts what it skipped; who does not know them leaves them alone.
var jenkins = map[string]struct{ required, optional, within []string }{
	"testsuites": {nil, []string{"tests", "failures", "errors", "skipped", "time"}, []string{""}},
	"testsuite":  {[]string{"name", "tests", "failures", "errors"}, []string{"file", "skipped", "time"}, []string{"testsuites"}},
	"testcase":   {[]string{"name"}, []string{"classname", "time", "file", "line"}, []string{"testsuite"}},
	"failure":    {nil, []string{"message", "type"}, []string{"testcase"}},
	"error":      {nil, []string{"message", "type"}, []string{"testcase"}},
	"skipped":    {nil, nil, []string{"testcase"}},
	"system-out": {nil, nil, []string{"testcase"}},
}

// checkJUnit returns what a JUnit file has that it must not have, and whether it is
// XML at all.
func checkJUnit(text string) error {
	d, within := xml.NewDecoder(strings.NewReader(text)), []string{""}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := token.(type) {
		case xml.EndElement:
			within = within[:len(within)-1]
		case xml.StartElement:
			schema, known := jenkins[e.Name.Local]
			if parent := within[len(within)-1]; !known || !slices.Contains(schema.within, parent) {
				return fmt.Errorf("%s in %q", e.Name.Local, parent)
			}
			var names []string
			for _, a := range e.Attr {
				names = append(names, a.Name.Local)
				if !slices.Contains(slices.Concat(schema.required, schema.optional), a.Name.Local) {
					return fmt.Errorf("attribute %s of %s", a.Name.Local, e.Name.Local)
				}
			}
			for _, name := range schema.required {
				if !slices.Contains(names, name) {
					return fmt.Errorf("%s without %s", e.Name.Local, name)
				}
			}
			within = append(within, e.Name.Local)
		}
	}
}

func TestJUnitSchema(t *testing.T) {
	for name, r := range results() {
		if err := checkJUnit(write(t, r, output.JUnit, output.Style{})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// texts are some that formats might take for something else.
var texts = []string{nasty, "]]>", "\x00\xff\xfe", "\u2028\ufeff\ufffe", "a\r\n::error::b", "---\n- a: &b *c", "<![CDATA[", "\"results\": []", "here"}

// made are results that say the same wherever they can say something.
func made(text, file string) map[string]output.Result {
	o := output.Object{APIVersion: text, Kind: text, Namespace: text, Name: text, File: file, Line: 1}
	at := output.Problem{File: file, Line: 2, Err: errors.New(text)}
	c := policy.Constraint{Kind: text, Name: text, Action: policy.Action(text)}
	by := output.Constraint{Kind: text, Name: text}
	violations := []v1alpha1.Violation{violation(text, text, text, text, text, text)}
	gaps := []v1alpha1.AuditGap{{Group: text, Kind: text, Name: text, Constraint: text, Reason: text, Message: text}}
	return map[string]output.Result{
		"test": output.Report{
			Version: text, Objects: []output.Object{o}, Problems: []output.Problem{at},
			Findings: []output.Finding{
				{Object: o, Constraint: by, Action: policy.Deny, Message: text, Details: text}, {Object: o, Constraint: by, Message: text, Fault: true},
			},
		},
		"audit": output.Audit{
			Constraints: []output.AuditedConstraint{{Constraint: c, Reason: text, Message: text, Total: 1, Violations: violations}},
			Report:      v1alpha1.AuditReportStatus{Gaps: gaps},
		},
		"lint": output.Lint{
			Templates: []output.Object{o},
			Flaws:     []output.Flaw{{Rule: text, Severity: output.Error, Template: text, File: file, Message: text, Fix: text, About: text}},
		},
		"verify": output.Verification{Suites: []*output.Suite{{Name: text, Path: file, Tests: []output.Test{
			{Name: text, Err: at, Cases: []output.Case{{Name: text, Err: output.Mismatched(at)}}},
		}}}},
	}
}

// FuzzFormats: whatever is in the texts of a result, each format stays what it is,
// and nothing in it is unprintable.
func FuzzFormats(f *testing.F) {
	for _, text := range texts {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, text, file string) {
		for name, r := range made(text, file) {
			for _, format := range output.Formats() {
				got := write(t, r, format, output.Style{})
				if err := check(format, got); err != nil {
					t.Errorf("%s as %s: %v in\n%s", name, format, err, got)
				}
			}
		}
	})
}

// TestSARIFSchema validates SARIF against its schema, whatever is in it.
func TestSARIFSchema(t *testing.T) {
	for _, text := range texts {
		for name, r := range made(text, text) {
			report, err := sarif.FromString(write(t, r, output.SARIF, output.Style{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := report.Validate(); err != nil {
				t.Errorf("%s of %q: %v", name, text, err)
			}
		}
	}
}

// check returns what is wrong with a text for one of its format.
func check(f output.Format, text string) error {
	if !utf8.ValidString(text) || printable.Text(text) != text {
		return errors.New("text that is not printable")
	}
	switch f {
	case output.JSON:
		if !json.Valid([]byte(text)) {
			return errors.New("no JSON")
		}
	case output.YAML:
		return yaml.Unmarshal([]byte(text), &map[string]any{})
	case output.JUnit:
		return checkJUnit(text)
	case output.SARIF:
		_, err := sarif.FromString(text)
		return err
	case output.GitHub:
		for line := range strings.Lines(text) {
			if !workflowCommand.MatchString(strings.TrimSuffix(line, "\n")) {
				return fmt.Errorf("%q is no workflow command", line)
			}
		}
	}
	return nil
}
