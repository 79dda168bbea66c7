// Package templates is the policy library: a folder per ConstraintTemplate
// with template.yaml and, in samples, constraints and objects that they allow
// and disallow.
package templates

import "embed"

// FS holds the library, a folder per template.
//
//go:embed */template.yaml */samples/*.yaml
var FS embed.FS
