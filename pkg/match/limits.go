package match

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a match block. What people write is smaller by orders of magnitude;
// what is larger would make everything dear that is built from all constraints:
// the rules of the webhook, the index by which reviews find their constraints,
// the samples by which enforcement is proven.
const (
	// maxEntries is how many entries kinds may have, and maxNames how many API
	// groups and kinds all of them may name together.
	maxEntries, maxNames = 500, 2000
	// maxNamespaces is how many items namespaces and excludedNamespaces may have
	// each, and maxPatterns how many of those may hold a star: a name is looked
	// up, patterns are gone through.
	maxNamespaces, maxPatterns = 10_000, 1000
	// maxRequirements is how many labels a selector may speak of, and maxValues
	// how many values it may compare them with.
	maxRequirements, maxValues = 250, 10_000
	// maxText is how long the name of a group, a kind, a namespace or an object
	// may be, in bytes: those of objects have 253 at most, and there is room for
	// two stars.
	maxText = 255
	// maxErrors is how many errors are worded; the rest is counted.
	maxErrors = 20
)

// The fixes that errors of size name.
const (
	fixKinds      = `use "*" for every group or kind, or split the constraint`
	fixNamespaces = "select namespaces by their labels with spec.match.namespaceSelector, use names with a star, or split the constraint"
	fixPatterns   = "select namespaces by their labels with spec.match.namespaceSelector, or split the constraint"
	fixSelector   = "label what is meant with one label and select that, or split the constraint"
	fixText       = "no name in a cluster is as long; correct it"
)

// within reports whether there are no more of something than are allowed, and
// fails if there are.
func (c *compiler) within(at *field.Path, count int, what string, most int, fix string) bool {
	if count <= most {
		return true
	}
	c.fail(at, "%d %s, at most %d are allowed: %s", count, what, most, fix)
	return false
}

// short reports whether a text is not too long, and fails if it is.
func (c *compiler) short(at *field.Path, text string) bool {
	return c.within(at, len(text), "bytes long", maxText, fixText)
}

// err joins the first errors and counts the others.
func (c *compiler) err() error {
	if more := len(c.errs) - maxErrors; more > 0 {
		return errors.Join(append(c.errs[:maxErrors:maxErrors], fmt.Errorf("spec.match: %d more errors", more))...)
	}
	return errors.Join(c.errs...)
}
