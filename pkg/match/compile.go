package match

import (
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
// what its author hoped is an error, and so is what is larger than the bounds
// in limits.go; each names its field and the fix, and all are reported, joined.
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
	if err := c.err(); err != nil {
		return nil, err
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
	list, names := c.list(match, "kinds", root), 0
	if !c.within(root.Child("kinds"), len(list), "entries", maxEntries, fixKinds) {
		return nil
	}
	for i, entry := range list {
		at := root.Child("kinds").Index(i)
		k, ok := entry.(map[string]any)
		if !ok {
			c.fail(at, "must be an object with apiGroups and kinds, is %s", jsonType(entry))
			continue
		}
		groups, kinds := c.texts(k, "apiGroups", at, maxNames, fixKinds), c.texts(k, "kinds", at, maxNames, fixKinds)
		names += len(groups) + len(kinds)
		out = append(out, newKindSet(groups, kinds))
	}
	c.within(root.Child("kinds"), names, "API groups and kinds in all entries", maxNames, fixKinds)
	return out
}

func (c *compiler) source(match map[string]any, root *field.Path) policy.Source {
	switch source := policy.Source(c.text(match, "source", root)); source {
	case "", sourceAll:
		return ""
	case policy.SourceOriginal, policy.SourceGenerated:
		return source
	default:
		c.fail(root.Child("source"), "%.255q is not a source, use All, Original or Generated", source)
		return ""
	}
}

func (c *compiler) name(match map[string]any, root *field.Path) (glob, bool) {
	pattern := c.text(match, "name", root)
	if pattern == "" || !c.short(root.Child("name"), pattern) {
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
	for i, pattern := range c.texts(match, key, root, maxNamespaces, fixNamespaces) {
		if err := out.add(pattern); err != nil {
			c.fail(root.Child(key).Index(i), "%q: %w", pattern, err)
		}
	}
	c.within(root.Child(key), len(out.open), "items with a star", maxPatterns, fixPatterns)
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

// texts reads a list of strings, of which there may be so many.
func (c *compiler) texts(m map[string]any, key string, parent *field.Path, most int, fix string) []string {
	var out []string
	list := c.list(m, key, parent)
	if !c.within(parent.Child(key), len(list), "items", most, fix) {
		return nil
	}
	for i, item := range list {
		s, ok := item.(string)
		if !ok {
			c.fail(parent.Child(key).Index(i), "must be a string, is %s", jsonType(item))
			continue
		}
		if c.short(parent.Child(key).Index(i), s) {
			out = append(out, s)
		}
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
