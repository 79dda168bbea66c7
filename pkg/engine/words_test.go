package engine_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/open-policy-agent/frameworks/constraint/pkg/apis/constraints"
	clienterrors "github.com/open-policy-agent/frameworks/constraint/pkg/client/errors"

	"github.com/fusegate/fusegate/pkg/engine"
)

// TestWords wants what is wrong to be said of the object as its author wrote it.
func TestWords(t *testing.T) {
	e := newEngine(t, requiredLabels)
	kind := func(n int) string {
		long := "L" + strings.Repeat("x", n-1)
		return strings.NewReplacer("RequiredLabels", long, "name: requiredlabels", "name: "+strings.ToLower(long)).Replace(requiredLabels)
	}
	for name, tc := range map[string]struct {
		reason, text, want string
		is                 error
	}{
		"longest kind": {reason: "the limit is the API server's, less what the list's kind adds", text: kind(59)},
		"long kind":    {reason: "one more", text: kind(60), want: "spec.crd.spec.names.kind: 60 characters long, at most 59 are allowed"},
		"other kind": {
			reason: "the fix is named", text: strings.Replace(requiredLabels, "kind: RequiredLabels", "kind: OtherLabels", 1),
			want: `metadata.name: "requiredlabels" is not the lowercase of spec.crd.spec.names.kind: use "otherlabels"`,
		},
		"no kind": {
			reason: "the framework's words do", text: strings.Replace(requiredLabels, "{kind: RequiredLabels}", "{}", 1),
			want: `invalid ConstraintTemplate: ConstraintTemplate "requiredlabels" does not specify CRD Kind`, is: clienterrors.ErrInvalidConstraintTemplate,
		},
		"schema": {
			reason: "a field of the template, not of the CRD made of it", text: strings.Replace(requiredLabels, "items: {type: string}", "items: {type: strnig}", 1),
			want: "invalid ConstraintTemplate: spec.crd.spec.validation.openAPIV3Schema.properties[labels].items.type: Unsupported value", is: clienterrors.ErrInvalidConstraintTemplate,
		},
		"parameters": {
			reason: "no nameless root", text: strings.Replace(owner, "labels: [owner]", "labels: owner", 1),
			want: "schema validation failed: spec.parameters.labels: Invalid value", is: constraints.ErrSchema,
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := object(t, tc.text)
			err := e.AddConstraint(t.Context(), u)
			if u.GetKind() == "ConstraintTemplate" {
				err = checkAndAdd(t, tc.text)
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
				t.Errorf("%s: got %v, want %q", tc.reason, err, tc.want)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%s: %v is not %v any more", tc.reason, err, tc.is)
			}
		})
	}
}

// checkAndAdd returns what both CheckTemplate and AddTemplate say.
func checkAndAdd(t *testing.T, text string) error {
	t.Helper()
	tpl, err := engine.ParseTemplate(object(t, text))
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t)
	checked, added := e.CheckTemplate(t.Context(), tpl), e.AddTemplate(t.Context(), tpl)
	if (checked == nil) != (added == nil) || checked != nil && checked.Error() != added.Error() {
		t.Errorf("checked: %v, added: %v", checked, added)
	}
	return added
}
