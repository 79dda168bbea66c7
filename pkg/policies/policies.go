// Package policies collects templates and constraints, from manifests or from a
// cluster, and has an engine judge by them. What is wrong with one is told by
// the place where it is written and costs no other.
package policies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
)

var errBrokenTemplate = errors.New("it is not judged by")

// Set is templates and constraints on their way into an engine. The zero value
// is empty.
type Set struct {
	templates   map[string]*held // by name
	constraints map[string]*held // by kind and name
	// Note is told of what is odd and no error. Nil leaves it untold.
	Note func(output.Problem)

	problems []output.Problem
	added    int
}

// held is one template or constraint.
type held struct {
	manifest.Object
	// broken is set once it is known that it cannot be judged by.
	broken bool
	// used is set on a template that has a constraint.
	used bool
}

// IsTemplate tells whether an object is a ConstraintTemplate.
func IsTemplate(u *unstructured.Unstructured) bool {
	return u.GroupVersionKind().Group == engine.TemplateGroup
}

// IsConstraint tells whether an object is a constraint.
func IsConstraint(u *unstructured.Unstructured) bool {
	return u.GroupVersionKind().Group == engine.ConstraintGroup
}

// Add takes o if it is a template or a constraint, and returns whether it is. Of
// two with one name the first counts; the other is a problem unless it says the
// same.
func (s *Set) Add(o manifest.Object) bool {
	switch {
	case IsTemplate(o.Unstructured):
		s.hold(&s.templates, o.GetName(), o)
	case IsConstraint(o.Unstructured):
		s.hold(&s.constraints, o.GetKind()+"/"+o.GetName(), o)
	default:
		return false
	}
	return true
}

func (s *Set) hold(into *map[string]*held, key string, o manifest.Object) {
	if *into == nil {
		*into = map[string]*held{}
	}
	first := (*into)[key]
	if first == nil {
		(*into)[key] = &held{Object: o}
		return
	}
	if !reflect.DeepEqual(first.Object.Object["spec"], o.Object["spec"]) {
		s.problem(o, 0, fmt.Errorf("%s %w: it is also, and says something else, at %s; keep one",
			manifest.Name(o.Unstructured), manifest.ErrDuplicate, first.Place()))
	}
}

// HasTemplate tells whether the template of a constraint kind is held.
func (s *Set) HasTemplate(kind string) bool { return s.templates[strings.ToLower(kind)] != nil }

// Kinds are those of the constraints, sorted.
func (s *Set) Kinds() []string {
	kinds := map[string]bool{}
	for _, c := range s.constraints {
		kinds[c.GetKind()] = true
	}
	return slices.Sorted(maps.Keys(kinds))
}

// Keep forgets all constraints but those that are named, kind and name with a
// slash between; none named keeps all. One that there is not is an error.
func (s *Set) Keep(named []string) error {
	if len(named) == 0 {
		return nil
	}
	kept := map[string]*held{}
	for _, name := range named {
		c := s.constraints[name]
		if c == nil {
			return fmt.Errorf("there is no constraint %s: give its kind and name, as in RequiredLabels/owner", name)
		}
		kept[name] = c
	}
	s.constraints = kept
	return nil
}

// Load gives the engine what was added: templates, then constraints. It returns
// how many constraints the engine judges by, and what is wrong with the rest.
func (s *Set) Load(ctx context.Context, e *engine.Engine) (int, []output.Problem) {
	for _, key := range slices.Sorted(maps.Keys(s.templates)) {
		s.loadTemplate(ctx, e, s.templates[key])
	}
	for _, key := range slices.Sorted(maps.Keys(s.constraints)) {
		s.loadConstraint(ctx, e, s.constraints[key])
	}
	for _, key := range slices.Sorted(maps.Keys(s.templates)) {
		if t := s.templates[key]; !t.used && !t.broken && s.Note != nil {
			s.Note(output.Problem{File: t.File, Line: t.Line, Err: fmt.Errorf("%s has no constraint, so that it judges nothing", manifest.Name(t.Unstructured))})
		}
	}
	return s.added, s.problems
}

func (s *Set) loadTemplate(ctx context.Context, e *engine.Engine, t *held) {
	parsed, err := engine.ParseTemplate(t.Unstructured)
	if err == nil {
		err = e.AddTemplate(ctx, parsed)
	}
	if err == nil {
		return
	}
	t.broken = true
	for _, p := range engine.Problems(err) {
		s.problem(t.Object, regoLine(t.Object, p.Location), fmt.Errorf("%s: %s", manifest.Name(t.Unstructured), located(p)))
	}
}

func located(p engine.Problem) string {
	if p.Location == "" {
		return p.Message
	}
	return p.Location + ": " + p.Message
}

// regoLine finds the line of a place in the Rego, as in "rego:3:7", in the file:
// the text of a block starts below its field.
func regoLine(o manifest.Object, location string) int {
	part, rest, _ := strings.Cut(location, ":")
	line, _, _ := strings.Cut(rest, ":")
	n, err := strconv.Atoi(line)
	if err != nil || o.Line == 0 {
		return o.Line
	}
	for _, path := range regoPaths(part) {
		if o.IsBlock(path...) {
			return o.FieldLine(path...) + n
		}
	}
	return o.Line
}

// regoPaths are where the source may be that a location calls rego or libs[n].
func regoPaths(part string) [][]string {
	field := []string{part}
	if name, index, ok := strings.Cut(strings.TrimSuffix(part, "]"), "["); ok {
		field = []string{name, index}
	}
	target := []string{"spec", "targets", "0"}
	return [][]string{
		slices.Concat(target, field),
		slices.Concat(target, []string{"code", "0", "source"}, field),
		slices.Concat(target, []string{"code", "1", "source"}, field),
	}
}

func (s *Set) loadConstraint(ctx context.Context, e *engine.Engine, c *held) {
	template := s.templates[strings.ToLower(c.GetKind())]
	if template != nil {
		template.used = true
	}
	if template != nil && template.broken {
		c.broken = true
		s.problem(c.Object, 0, fmt.Errorf("%s: %w: its template, at %s, is not valid", manifest.Name(c.Unstructured), errBrokenTemplate, template.Place()))
		return
	}
	err := e.AddConstraint(ctx, c.Unstructured)
	if err == nil {
		s.added++
		return
	}
	c.broken = true
	if engine.IsNoTemplate(err) {
		err = fmt.Errorf("there is no ConstraintTemplate for the kind %s: add it", c.GetKind())
	}
	s.problem(c.Object, 0, fmt.Errorf("%s: %w", manifest.Name(c.Unstructured), err))
}

// problem records what is wrong at a line of an object, or at its start.
func (s *Set) problem(o manifest.Object, line int, err error) {
	if line == 0 {
		line = o.Line
	}
	s.problems = append(s.problems, output.Problem{File: o.File, Line: line, Err: err})
}

// Problem records what is wrong with a file of policies as such.
func (s *Set) Problem(p output.Problem) { s.problems = append(s.problems, p) }

// Constraints are those that were judged by, once loaded, by kind and name.
func (s *Set) Constraints() []manifest.Object {
	var out []manifest.Object
	for _, key := range slices.Sorted(maps.Keys(s.constraints)) {
		if c := s.constraints[key]; !c.broken {
			out = append(out, c.Object)
		}
	}
	return out
}
