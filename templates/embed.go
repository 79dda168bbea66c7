// Package templates is the policy library: a folder per ConstraintTemplate
// with template.yaml, suite.yaml, which says what the template finds, and, in
// samples, a constraint and objects that it allows and disallows.
package templates

import "embed"

// FS holds the library, a folder per template.
//
//go:embed */template.yaml */suite.yaml */samples/*.yaml
var FS embed.FS
