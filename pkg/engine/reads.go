package engine

import (
	"strings"

	"github.com/fusegate/fusegate/pkg/rego"
)

// Reads is what of a review a template's code may read.
type Reads = rego.Reads

// replicas is where scaling writes, in the kinds of Kubernetes and most others.
var replicas = []string{"spec", "replicas"}

// Reading selects, for ReviewBy, the constraints whose template may read what lies
// at a path of the reviewed object.
func (e *Engine) Reading(path ...string) (by func(kind, name string) bool, found bool) {
	e.registry.mu.Lock()
	defer e.registry.mu.Unlock()
	reading := map[string]bool{}
	for template, reads := range e.registry.reads {
		if reads.MayReadObject(path...) && len(e.registry.entries[template]) > 0 && template != strings.ToLower(canaryPolicy) {
			reading[template] = true
		}
	}
	return func(kind, _ string) bool { return reading[strings.ToLower(kind)] }, len(reading) > 0
}
