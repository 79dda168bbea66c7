package match

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Compile turns a match block, as decoded JSON, into a Matcher. A nil or empty
// block matches everything. The block is not kept.
//
// What Gatekeeper tolerates is tolerated: an unknown scope matches everything,
// an unknown field and a null are ignored. Everything else that cannot mean
// what its author hoped is an error; each names its field and the fix, and all
// are reported, joined.
func Compile(match map[string]any) (*Matcher, error) {
	c := &compiler{}
	root := field.NewPath("spec", "match")
	m := &Matcher{
		kinds:              c.kinds(match, root),
		scope:              Scope(c.text(match, "scope", root)),
		source:             c.source(match, root),
		namespaces:         c.globs(match, "namespaces", root),
		excludedNamespaces: c.globs(match, "excludedNamespaces", root),
		labels:             c.selector(match, "labelSelector", root),
		namespaceLabels:    c.selector(match, "namespaceSelector", root),
	}
	m.name, m.hasName = c.name(match, root)
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return m, nil
}

// compiler collects what is wrong with a match block. Its methods return
// something usable in any case.
type compiler struct{ errs []error }

func (c *compiler) fail(at *field.Path, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %w", at, fmt.Errorf(format, args...)))
}

func (c *compiler) kinds(match map[string]any, root *field.Path) []kindSet {
	var out []kindSet
	for i, entry := range c.list(match, "kinds", root) {
		at := root.Child("kinds").Index(i)
		k, ok := entry.(map[string]any)
		if !ok {
			c.fail(at, "must be an object with apiGroups and kinds, is %s", jsonType(entry))
			continue
		}
		out = append(out, kindSet{
			groups: newSet(c.texts(k, "apiGroups", at)),
			kinds:  newSet(c.texts(k, "kinds", at)),
		})
	}
	return out
}

func (c *compiler) source(match map[string]any, root *field.Path) policy.Source {
	switch source := policy.Source(c.text(match, "source", root)); source {
	case "", sourceAll:
		return ""
	case policy.SourceOriginal, policy.SourceGenerated:
		return source
	default:
		c.fail(root.Child("source"), "%q is not a source, use All, Original or Generated", source)
		return ""
	}
}

func (c *compiler) name(match map[string]any, root *field.Path) (glob, bool) {
	pattern := c.text(match, "name", root)
	if pattern == "" {
		return glob{}, false
	}
	g, err := parseGlob(pattern)
	if err != nil {
		c.fail(root.Child("name"), "%q: %w", pattern, err)
	}
	return g, true
}

func (c *compiler) globs(match map[string]any, key string, root *field.Path) globs {
	var out globs
	for i, pattern := range c.texts(match, key, root) {
		if err := out.add(pattern); err != nil {
			c.fail(root.Child(key).Index(i), "%q: %w", pattern, err)
		}
	}
	return out
}

func (c *compiler) text(m map[string]any, key string, parent *field.Path) string {
	s, ok := m[key].(string)
	if !ok && m[key] != nil {
		c.fail(parent.Child(key), "must be a string, is %s", jsonType(m[key]))
	}
	return s
}

func (c *compiler) list(m map[string]any, key string, parent *field.Path) []any {
	l, ok := m[key].([]any)
	if !ok && m[key] != nil {
		c.fail(parent.Child(key), "must be a list, is %s", jsonType(m[key]))
	}
	return l
}

func (c *compiler) object(m map[string]any, key string, parent *field.Path) map[string]any {
	o, ok := m[key].(map[string]any)
	if !ok && m[key] != nil {
		c.fail(parent.Child(key), "must be an object, is %s", jsonType(m[key]))
	}
	return o
}

func (c *compiler) texts(m map[string]any, key string, parent *field.Path) []string {
	var out []string
	for i, item := range c.list(m, key, parent) {
		s, ok := item.(string)
		if !ok {
			c.fail(parent.Child(key).Index(i), "must be a string, is %s", jsonType(item))
			continue
		}
		out = append(out, s)
	}
	return out
}

// sortedKeys makes the order of errors independent of the map's.
func sortedKeys(m map[string]any) []string {
	return slices.Sorted(maps.Keys(m))
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprintf("a %T, which is not decoded JSON", v)
	}
}
