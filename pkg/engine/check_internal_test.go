package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

// checkedTemplates are judged by the compiled evaluator, and each says
// something that another evaluation may not.
var checkedTemplates = map[string]string{
	"Named":  `msg := input.review.object.metadata.name`,
	"Clock":  `msg := sprintf("%v", [time.now_ns()])`,
	"Random": `msg := sprintf("%v", [rand.intn("x", 1000000000)])`,
	"Stored": `count(data.inventory.cluster.v1.Namespace) > 0; msg := "there are namespaces"`,
}

// checkedEngine has a constraint for each template, and all reviews checked.
func checkedEngine(t *testing.T) (*Engine, <-chan Difference, *prometheus.Registry) {
	t.Helper()
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	m, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	e.Observe(m)
	for kind, body := range checkedTemplates {
		addChecked(t, e, kind, body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, found := make(chan struct{}), make(chan Difference, 10)
	go func() {
		defer close(done)
		e.RunChecks(ctx, 1, func(d Difference) { found <- d })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return e, found, registry
}

func addChecked(t *testing.T, e *Engine, kind, body string) {
	t.Helper()
	template := `{apiVersion: templates.gatekeeper.sh/v1, kind: ConstraintTemplate, metadata: {name: ` + strings.ToLower(kind) + `},
  spec: {crd: {spec: {names: {kind: ` + kind + `}}}, targets: [{target: admission.k8s.gatekeeper.sh, rego: ""}]}}`
	tu, cu := &unstructured.Unstructured{}, &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(template), &tu.Object); err != nil {
		t.Fatal(err)
	}
	tu.Object["spec"].(map[string]any)["targets"].([]any)[0].(map[string]any)["rego"] = "package p\nviolation[{\"msg\": msg}] { " + body + " }"
	parsed, err := ParseTemplate(tu)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddTemplate(t.Context(), parsed); err != nil {
		t.Fatal(err)
	}
	constraint := `{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: ` + kind + `, metadata: {name: all}}`
	if err := yaml.Unmarshal([]byte(constraint), &cu.Object); err != nil {
		t.Fatal(err)
	}
	if err := e.AddConstraint(t.Context(), cu); err != nil {
		t.Fatal(err)
	}
}

func podReview() *policy.Review {
	r := &policy.Review{
		Name: "secret-name", Operation: policy.Create, Point: policy.PointWebhook,
		Object: map[string]any{"kind": "Pod", "metadata": map[string]any{"name": "secret-name"}},
	}
	r.Kind.Version, r.Kind.Kind = "v1", "Pod"
	return r
}

// checkedTotal is how many evaluations were checked.
func checkedTotal(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// missed is a sample for checks in which the code of a kind has found nothing.
func missed(t *testing.T, e *Engine, kind string) sample {
	t.Helper()
	r := podReview()
	v := review{Review: r, place: place(r.Point), data: e.rego.Data(), input: rego.NewInput(r), keeps: true}
	for x := range e.registry.current.Load().of(r.Kind.Kind) {
		v.judge(&budget{Context: t.Context()}, x, judge)
	}
	n := slices.IndexFunc(v.judged, func(j judged) bool { return j.entry.kind == kind })
	if n < 0 || v.judged[n].found.Len() == 0 {
		t.Fatalf("%s finds nothing by itself", kind)
	}
	v.judged[n].found = rego.Findings{}
	return sample{data: v.data, input: v.input, judged: v.judged}
}

// checked has what a kind's code missed checked, and returns the difference.
func checked(t *testing.T, e *Engine, kind string, found <-chan Difference) Difference {
	t.Helper()
	s, timeout := missed(t, e, kind), time.After(30*time.Second)
	for e.checks.Load() == nil {
		runtime.Gosched()
	}
	select {
	case e.checks.Load().queue <- s:
	case <-timeout:
		t.Fatal("nothing is checked")
	}
	select {
	case d := <-found:
		return d
	case <-timeout:
		t.Fatal("nothing was found")
	}
	return Difference{}
}

// TestCheckFindsWrongCode has code miss a violation. It is found, and the code
// not used again.
func TestCheckFindsWrongCode(t *testing.T) {
	e, found, registry := checkedEngine(t)
	d := checked(t, e, "Named", found)
	if d.Constraint.Kind != "Named" || len(d.Digest) != 64 || strings.Contains(d.Error(), "secret-name") {
		t.Errorf("got %+v: want one about Named, with a digest and without the object", d)
	}
	if why := e.Interpreted()["Named"]; why == nil || !strings.Contains(why.Error(), "another verdict") {
		t.Errorf("interpreted: %v, want Named, because it was wrong", e.Interpreted())
	}
	if got := e.Review(t.Context(), podReview()); len(got.Violations) != 3 {
		t.Errorf("got %d violations afterwards, want 3", len(got.Violations))
	}
	if n := checkedTotal(t, registry, "fusegate_evaluator_differences_total"); n != 1 {
		t.Errorf("%v differences counted, want 1", n)
	}
}

// TestCheckOfMany has the code of one of more templates be wrong than the
// interpreter's programs are kept of.
func TestCheckOfMany(t *testing.T) {
	e, found, _ := checkedEngine(t)
	for n := range rego.MaxReferences {
		addChecked(t, e, fmt.Sprint("Many", n), `msg := "many"`)
	}
	if d := checked(t, e, "Many0", found); d.Constraint.Kind != "Many0" {
		t.Errorf("got %+v: want one about Many0", d)
	}
	if n := len(e.Interpreted()); n != 1 {
		t.Errorf("%d templates are interpreted, want 1: %v", n, e.Interpreted())
	}
}

func TestSampleByTemplate(t *testing.T) {
	one, other := &entry{program: &rego.Program{}}, &entry{program: &rego.Program{}}
	for _, want := range [][]int{nil, {1}, {2}, {2, 1}, {1, 3, 1}} {
		var s sample
		for i, n := range want {
			s.judged = append(s.judged, slices.Repeat([]judged{{entry: []*entry{one, other}[i%2]}}, n)...)
		}
		var got []int
		for _, found := range s.byTemplate() {
			got = append(got, len(found))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got templates with %v constraints, want %v", got, want)
		}
	}
}

// TestCheckTakesNoOffence: what may differ in truth, the time, the inventory and
// chance, is no difference.
func TestCheckTakesNoOffence(t *testing.T) {
	e, found, registry := checkedEngine(t)
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; checkedTotal(t, registry, "fusegate_evaluator_checks_total") < 12; i++ {
		if time.Now().After(deadline) {
			t.Fatal("too few checks")
		}
		path := []string{"cluster", "v1", "Namespace", "a"}
		if err := e.AddData(t.Context(), path, map[string]any{}); err != nil {
			t.Fatal(err)
		}
		e.Review(t.Context(), podReview())
		if err := e.RemoveData(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case d := <-found:
		t.Errorf("%s: %v", d.Constraint.Kind, d)
	default:
	}
	if len(e.Interpreted()) != 0 {
		t.Errorf("interpreted: %v", e.Interpreted())
	}
}
