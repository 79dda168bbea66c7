package engine_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/clienttest/cts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

// The tests in framework_*_test.go assert of the engine what the constraint
// framework's own tests assert of its client and driver, with the
// framework's templates and constraints where those fit. Which test of theirs
// is asserted where is in docs/design/002-framework-parity.md.

// ours points one of the framework's test templates at Fusegate's target.
func ours(t *engine.Template) *engine.Template {
	t.Spec.Targets[0].Target = engine.TargetName
	return t
}

// kinded is ours with another kind.
func kinded(t *engine.Template, kind string) *engine.Template {
	t.Name = strings.ToLower(kind)
	t.Spec.CRD.Spec.Names.Kind = kind
	return ours(t)
}

func add(t *testing.T, e *engine.Engine, templates []*engine.Template, constraints ...*unstructured.Unstructured) {
	t.Helper()
	for _, tpl := range templates {
		if err := e.AddTemplate(t.Context(), tpl); err != nil {
			t.Fatalf("adding template %s: %v", tpl.Name, err)
		}
	}
	for _, c := range constraints {
		if err := e.AddConstraint(t.Context(), c); err != nil {
			t.Fatalf("adding constraint %s: %v", c.GetName(), err)
		}
	}
}

// denying returns an engine with the framework's template that denies all, and
// a constraint of it.
func denying(t *testing.T) *engine.Engine {
	t.Helper()
	e := newEngine(t)
	add(t, e, []*engine.Template{ours(clienttest.TemplateDeny())}, cts.MakeConstraint(t, clienttest.KindDeny, "constraint"))
	return e
}

// datum is the review of an object whose field data is a text, which is what
// the framework's templates read. A namespace of its own is not found.
func datum(namespace, data string) *policy.Review {
	return &policy.Review{
		Kind: schema.GroupVersionKind{Version: "v1", Kind: "Datum"}, Name: "foo", Namespace: namespace,
		Operation: policy.Create, Point: policy.PointWebhook,
		Object: map[string]any{"apiVersion": "v1", "kind": "Datum", "metadata": map[string]any{"name": "foo"}, "data": data},
	}
}

func wantMessages(t *testing.T, reason string, e *engine.Engine, r *policy.Review, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, messages(e.Review(t.Context(), r))); diff != "" {
		t.Errorf("%s (-want +got):\n%s", reason, diff)
	}
}

func wantError(t *testing.T, reason string, err error, want string) {
	t.Helper()
	if want == "" && err != nil {
		t.Errorf("%s: got %v, want no error", reason, err)
	}
	if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: got error %v, want one with %q", reason, err, want)
	}
}
