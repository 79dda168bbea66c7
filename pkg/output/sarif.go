package output

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
)

const (
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	information = "https://github.com/fusegate/fusegate"
)

// sarif writes the report for code scanners: a rule for each constraint, and a
// result where the object is written.
func (r Report) sarif(w io.Writer) error {
	return Encode(w, JSON, r.sarifReport())
}

func (r Report) sarifReport() *sarif.Report {
	run := sarif.NewRunWithInformationURI("Fusegate", information)
	if r.Version != "" {
		run.Tool.Driver.WithVersion(r.Version)
	}
	rules := map[Constraint]bool{}
	for _, f := range r.Findings {
		if !rules[f.Constraint] {
			rules[f.Constraint] = true
			run.AddRule(f.Constraint.String()).WithName(f.Constraint.Kind).
				WithShortDescription(sarif.NewMultiformatMessageString().WithText("Constraint " + f.Constraint.String()))
		}
		if !f.Fault {
			run.AddResult(f.sarifResult())
		}
	}
	run.AddInvocation(r.invocation())
	report := sarif.NewReport()
	report.Schema = sarifSchema
	return report.AddRun(run)
}

func (f Finding) sarifResult() *sarif.Result {
	levels := map[string]string{"error": "error", "warning": "warning", "notice": "note"}
	sum := sha256.Sum256([]byte(f.Object.APIVersion + "\x00" + f.Object.String() + "\x00" + f.Constraint.String() + "\x00" + f.Message))
	return sarif.NewRuleResult(f.Constraint.String()).
		WithLevel(levels[f.level()]).
		WithMessage(sarif.NewTextMessage(f.Object.String() + ": " + f.Message)).
		WithLocations([]*sarif.Location{f.Object.location()}).
		WithPartialFingerprints(map[string]string{"fusegate/v1": hex.EncodeToString(sum[:])})
}

func (o Object) location() *sarif.Location {
	l := sarif.NewLocation().WithLogicalLocations([]*sarif.LogicalLocation{
		sarif.NewLogicalLocation().WithName(o.Name).WithFullyQualifiedName(o.APIVersion + " " + o.String()).WithKind("resource"),
	})
	return withPlace(l, o.File, o.Line)
}

func withPlace(l *sarif.Location, file string, line int) *sarif.Location {
	if file == "" {
		return l
	}
	p := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewSimpleArtifactLocation(fileURI(file)))
	if line > 0 {
		p.WithRegion(sarif.NewRegion().WithStartLine(line))
	}
	return l.WithPhysicalLocation(p)
}

// fileURI is a path as a URI, relative if the path is.
func fileURI(path string) string {
	slashed := filepath.ToSlash(filepath.Clean(path))
	u := url.URL{Path: slashed}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
		return u.String()
	}
	return strings.TrimPrefix(u.String(), "./")
}

// invocation says whether all could be run, and what could not.
func (r Report) invocation() *sarif.Invocation {
	out := sarif.NewInvocation().WithExecutionSuccessful(r.Complete())
	for _, p := range r.Problems {
		out.AddToolExecutionNotification(notification(p.Message, withPlace(sarif.NewLocation(), p.File, p.Line)))
	}
	for _, f := range r.Faults() {
		text := fmt.Sprintf("%s could not be judged by %s: %s", f.Object, f.Constraint, f.Message)
		out.AddToolExecutionNotification(notification(text, f.Object.location()))
	}
	return out
}

func notification(text string, at *sarif.Location) *sarif.Notification {
	return sarif.NewNotification().WithLevel("error").
		WithMessage(sarif.NewTextMessage(text)).WithLocations([]*sarif.Location{at})
}
