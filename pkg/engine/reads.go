package engine

import "github.com/fusegate/fusegate/pkg/rego"

// Reads is what of a review a template's code may read.
type Reads = rego.Reads
