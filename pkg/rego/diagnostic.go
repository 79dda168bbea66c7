package rego

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The codes that Fusegate adds to those of OPA (rego_parse_error,
// rego_type_error, rego_unsafe_var_error, ...).
const (
	CodeSource    = "rego_source_error"
	CodeImport    = "rego_import_error"
	CodeReference = "rego_reference_error"
	CodeEntry     = "rego_entry_error"
	CodeLimit     = "rego_limit_error"
)

// Diagnostic is one thing wrong with a template's Rego.
type Diagnostic struct {
	// Code is a stable identifier, OPA's where the error is OPA's.
	Code    string
	Message string
	// Location says where: the source within the template and the position
	// in it, as in "rego:3:7" or "libs[0]:2:1". Empty when the error concerns
	// the source as a whole.
	Location string
}

// Error is the diagnostic on one line.
func (d Diagnostic) Error() string {
	if d.Location == "" {
		return d.Code + ": " + d.Message
	}
	return d.Location + ": " + d.Code + ": " + d.Message
}

// Diagnostics is a non-empty list of what is wrong with a template's Rego. It
// is the type of every error that Compile returns.
type Diagnostics []Diagnostic

// Error is a line for each diagnostic.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.Error()
	}
	return strings.Join(lines, "\n")
}

// sourceError is a diagnostic about a template as a whole.
func sourceError(format string, args ...any) Diagnostics {
	return Diagnostics{{Code: CodeSource, Message: fmt.Sprintf(format, args...)}}
}

// diagnose turns an error of OPA's parser or compiler into Diagnostics.
func diagnose(err error) Diagnostics {
	var many ast.Errors
	var one *ast.Error
	switch {
	case errors.As(err, &many):
	case errors.As(err, &one):
		many = ast.Errors{one}
	default:
		return sourceError("%v", err)
	}
	out := make(Diagnostics, 0, len(many))
	for _, e := range many {
		out = append(out, Diagnostic{Code: e.Code, Message: e.Message, Location: location(e.Location)})
	}
	return out
}

func location(l *ast.Location) string {
	if l == nil || l.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", l.File, max(l.Row, 1), max(l.Col, 1))
}
