// Package output writes what commands have found in the formats that people and
// other programs read: tables and text, JSON, YAML, JUnit, SARIF and the workflow
// commands of GitHub. It holds values only and decides nothing.
//
// What a command has found is a Result: Report, Audit, Verification or Lint. A
// Result says what there is to tell, and one writer for each format tells it; a
// new format is a constant here and a writer beside the others.
package output

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/fusegate/fusegate/pkg/printable"
)

// Format is the name of a format.
type Format string

// The formats.
const (
	Table  Format = "table"
	Wide   Format = "wide"
	Text   Format = "text"
	JSON   Format = "json"
	YAML   Format = "yaml"
	JUnit  Format = "junit"
	SARIF  Format = "sarif"
	GitHub Format = "github"
)

// forPrograms are the formats that every Result can be written in.
var forPrograms = []Format{JSON, YAML, JUnit, SARIF, GitHub}

// Formats are those of findings, the default first.
func Formats() []Format { return append([]Format{Table, Wide}, forPrograms...) }

// SuiteFormats are those of suites that were run, the default first.
func SuiteFormats() []Format { return append([]Format{Text}, forPrograms...) }

// ParseFormat returns the format of that name among those given. Empty is the
// first of them.
func ParseFormat(name string, among []Format) (Format, error) {
	if name == "" {
		return among[0], nil
	}
	if slices.Contains(among, Format(name)) {
		return Format(name), nil
	}
	names := make([]string, len(among))
	for i, f := range among {
		names[i] = string(f)
	}
	return "", fmt.Errorf("%q is no format of this command: use one of %s", name, strings.Join(names, ", "))
}

// Result is what a command has found. Everything that may be long is a sequence,
// which a writer may go through more than once, so that nothing is held twice.
type Result interface {
	// people writes it for people.
	people(w io.Writer, wide bool, s Style) error
	// document is what JSON and YAML say.
	document() object
	// entries are what was found, and what could not be found out.
	entries() iter.Seq[entry]
	// suites are the test suites that JUnit knows.
	suites() iter.Seq[junitSuite]
	// about is what was run.
	about() about
}

// about is what was run, and whether all of it could be.
type about struct {
	version  string
	complete bool
	// timed tells that it is known how long each part took.
	timed bool
}

// Style is how a terminal is written to.
type Style struct {
	// Color asks for colours.
	Color bool
}

var errFormat = errors.New("unknown format")

// Write writes a result. What of it is not printable is escaped.
func Write(w io.Writer, r Result, f Format, s Style) error {
	var err error
	switch f {
	case Table, Wide, Text:
		err = buffered(w, func(w io.Writer) error { return r.people(w, f == Wide, s) }) // text by text: a colour is not printable
	default:
		err = laidOut(w, func(w io.Writer) error { return write(w, r, f) })
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", f, err)
	}
	return nil
}

// laidOut makes what is written printable as a whole.
func laidOut(w io.Writer, write func(io.Writer) error) error {
	return printable.Copy(w, func(w io.Writer) error { return buffered(w, write) })
}

func buffered(w io.Writer, write func(io.Writer) error) error {
	b := bufio.NewWriter(w)
	return errors.Join(write(b), b.Flush())
}

func write(w io.Writer, r Result, f Format) error {
	switch f {
	case JSON:
		return writeJSON(w, r.document())
	case YAML:
		return writeYAML(w, r.document())
	case JUnit:
		return writeJUnit(w, r)
	case SARIF:
		return writeSARIF(w, r)
	case GitHub:
		return writeGitHub(w, r)
	}
	return errFormat
}
