package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
)

// What a large cluster has.
const (
	manyTemplates   = 200
	manyConstraints = 1000
	// servesAt is the GOGC that a webhook of fusegate serve sets while policies
	// change.
	servesAt = 100
)

// scale adds many templates and constraints to an engine of its own and prints
// what each takes, and what the process then holds. It is to run in a process
// of its own.
func scale(ctx context.Context) error {
	l, err := loadLibrary()
	if err != nil {
		return err
	}
	e, err := engine.New()
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(servesAt)
	}
	templates, constraints := l.many()
	runtime.GC()
	before := resident()
	adds, err := timed(templates, func(t *engine.Template) error { return e.AddTemplate(ctx, t) })
	if err != nil {
		return err
	}
	constraintAdds, err := timed(constraints, func(c *unstructured.Unstructured) error { return e.AddConstraint(ctx, c) })
	if err != nil {
		return err
	}
	again, err := timed(templates, func(t *engine.Template) error { return e.AddTemplate(ctx, changed(t)) })
	if err != nil {
		return err
	}
	fmt.Printf("\n%d templates, %d constraints\n", len(templates), len(constraints))
	fmt.Printf("template add median: %s, p99 %s\n", percentile(adds, 50).Round(time.Microsecond), percentile(adds, 99).Round(time.Microsecond))
	fmt.Printf("template change median, with all constraints: %s, p99 %s\n", percentile(again, 50).Round(time.Microsecond), percentile(again, 99).Round(time.Microsecond))
	fmt.Printf("constraint add median: %s, p99 %s\n", percentile(constraintAdds, 50).Round(time.Microsecond), percentile(constraintAdds, 99).Round(time.Microsecond))
	peak := resident()
	debug.FreeOSMemory()
	fmt.Printf("rss: %d MB, %d MB before the first, %d MB after the last before the collector ran\n", resident(), before, peak)
	runtime.KeepAlive(e)
	runtime.KeepAlive(templates)
	return nil
}

// many is the library several times over, under other names.
func (l library) many() (templates []*engine.Template, constraints []*unstructured.Unstructured) {
	for i := range manyTemplates {
		t := l.templates[i%len(l.templates)].DeepCopy()
		kind := fmt.Sprintf("%sX%d", t.Spec.CRD.Spec.Names.Kind, i)
		t.Spec.CRD.Spec.Names.Kind, t.Name = kind, strings.ToLower(kind)
		templates = append(templates, t)
		constraints = append(constraints, renamed(l.constraints[i%len(l.constraints)], kind)...)
	}
	return templates, constraints
}

// renamed is a template's share of the constraints: one of another kind, several
// times over.
func renamed(c *unstructured.Unstructured, kind string) (out []*unstructured.Unstructured) {
	for j := range manyConstraints / manyTemplates {
		u := c.DeepCopy()
		u.SetKind(kind)
		u.SetName(fmt.Sprintf("%s-%d", c.GetName(), j))
		out = append(out, u)
	}
	return out
}

// changed is a template with another text.
func changed(t *engine.Template) *engine.Template {
	out := t.DeepCopy()
	target := &out.Spec.Targets[0]
	target.Rego += "\n"
	for i := range target.Code {
		if fields, ok := target.Code[i].Source.Value.(map[string]any); ok {
			fields["rego"] = fmt.Sprint(fields["rego"], "\n")
		}
	}
	return out
}

// timed is how long f takes for each item.
func timed[T any](items []T, f func(T) error) ([]time.Duration, error) {
	var out []time.Duration
	for _, x := range items {
		start := time.Now()
		if err := f(x); err != nil {
			return nil, err
		}
		out = append(out, time.Since(start))
	}
	slices.Sort(out)
	return out, nil
}

// resident is the memory of this process in megabytes, as Linux counts it.
func resident() int {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err) // there is no Linux
	}
	var total, pages int
	if _, err := fmt.Sscan(string(data), &total, &pages); err != nil {
		panic(err) // it holds numbers only
	}
	return pages * os.Getpagesize() / 1e6
}
