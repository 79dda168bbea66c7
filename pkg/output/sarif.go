package output

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"iter"
	"net/url"
	"path/filepath"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
)

const (
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	information = "https://github.com/fusegate/fusegate"
)

// The indentation of what a run of the only report lists.
const (
	resultIndent       = "        "
	notificationIndent = "            "
)

// writeSARIF writes for code scanners: a rule for each constraint or check, and a
// result where each finding is. Results and notifications, which may be many, are
// written one by one in place of those that a report of their module holds.
func writeSARIF(w io.Writer, r Result) error {
	result, notice := sarif.NewResult(), sarif.NewNotification().WithMessage(sarif.NewTextMessage("here"))
	run := sarif.NewRunWithInformationURI("Fusegate", information)
	if v := r.about().version; v != "" {
		run.Tool.Driver.WithVersion(v)
	}
	invocation := sarif.NewInvocation().WithExecutionSuccessful(r.about().complete)
	listed := rules(run, r)
	if listed.results {
		run.AddResult(result)
	}
	if listed.notifications {
		invocation.AddToolExecutionNotification(notice)
	}
	report := sarif.NewReport()
	report.Schema = sarifSchema
	return splice(w, report.AddRun(run.AddInvocation(invocation)),
		part{notice, notificationIndent, notifications(r)}, part{result, resultIndent, results(r)})
}

// rules adds them to a run, and tells what else there will be in it.
func rules(run *sarif.Run, r Result) (listed struct{ results, notifications bool }) {
	known := map[string]bool{}
	for e := range r.entries() {
		listed.results = listed.results || e.class == found
		listed.notifications = listed.notifications || e.class != found
		if e.rule.id == "" || known[e.rule.id] {
			continue
		}
		known[e.rule.id] = true
		run.AddRule(e.rule.id).WithName(e.rule.name).
			WithShortDescription(sarif.NewMultiformatMessageString().WithText(e.rule.text))
	}
	return listed
}

// part is a list of a document: the only element that it has there, and those
// that it gets.
type part struct {
	instead any
	indent  string
	of      iter.Seq[any]
}

// splice writes a document with its lists filled, which are in the order in which
// it has them; one without its element is empty, and stays so. What is written of
// a value cannot be mistaken for part of a text, where quotation marks are
// escaped.
func splice(w io.Writer, document any, parts ...part) error {
	var b bytes.Buffer
	if err := encodeJSON(&b, document); err != nil {
		return err
	}
	rest := b.Bytes()
	for _, p := range parts {
		text, err := indented(p.instead, p.indent)
		if err != nil {
			return err
		}
		before, after, found := bytes.Cut(rest, text)
		if !found {
			continue
		}
		if _, err := w.Write(before); err != nil {
			return err
		}
		if err := writeElements(w, p.of, p.indent); err != nil {
			return err
		}
		rest = after
	}
	_, err := w.Write(rest)
	return err
}

func results(r Result) iter.Seq[any] {
	return func(yield func(any) bool) {
		for e := range r.entries() {
			if e.class == found && !yield(e.sarif()) {
				return
			}
		}
	}
}

// notifications are about what concerns no rule first.
func notifications(r Result) iter.Seq[any] {
	return func(yield func(any) bool) {
		for _, ruled := range []bool{false, true} {
			for e := range r.entries() {
				if e.class == found || (e.rule.id != "") != ruled {
					continue
				}
				n := sarif.NewNotification().WithLevel(string(e.level)).
					WithMessage(sarif.NewTextMessage(e.text(false))).WithLocations([]*sarif.Location{e.at.location()})
				if !yield(n) {
					return
				}
			}
		}
	}
}

func (e entry) sarif() *sarif.Result {
	sum := sha256.Sum256([]byte(e.at.APIVersion + "\x00" + e.at.String() + "\x00" + e.rule.id + "\x00" + e.message))
	return sarif.NewRuleResult(e.rule.id).
		WithLevel(string(e.level)).
		WithMessage(sarif.NewTextMessage(e.text(true))).
		WithLocations([]*sarif.Location{e.at.location()}).
		WithPartialFingerprints(map[string]string{"fusegate/v1": hex.EncodeToString(sum[:])})
}

// location is where the object is written; one of a cluster has its name only.
func (o Object) location() *sarif.Location {
	l := sarif.NewLocation()
	if o.Kind != "" {
		l.WithLogicalLocations([]*sarif.LogicalLocation{
			sarif.NewLogicalLocation().WithName(o.Name).WithFullyQualifiedName(o.APIVersion + " " + o.String()).WithKind("resource"),
		})
	}
	if o.File == "" {
		return l
	}
	p := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewSimpleArtifactLocation(fileURI(o.File)))
	if o.Line > 0 {
		p.WithRegion(sarif.NewRegion().WithStartLine(o.Line))
	}
	return l.WithPhysicalLocation(p)
}

// fileURI is a path as a URI, relative if the path is.
func fileURI(path string) string {
	u := url.URL{Path: filepath.ToSlash(filepath.Clean(path))}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return u.String()
}
