package engine

import (
	"fmt"
	"strings"

	clienterrors "github.com/open-policy-agent/frameworks/constraint/pkg/client/errors"
)

// maxKind is how long a constraint kind may be: its list's kind, which is four
// letters longer, has to be a DNS label (k8s.io/apiextensions-apiserver
// pkg/apis/apiextensions/validation).
const maxKind = 63 - len("List")

// checkNames returns what is wrong with a template's names, in terms of the
// template: the framework tells it in terms of the CRD that it makes.
func checkNames(t *Template) error {
	if t == nil {
		return fmt.Errorf("%w: got nil ConstraintTemplate", clienterrors.ErrInvalidConstraintTemplate)
	}
	kind := t.Spec.CRD.Spec.Names.Kind
	if kind == "" {
		return fmt.Errorf("%w: ConstraintTemplate %q does not specify CRD Kind", clienterrors.ErrInvalidConstraintTemplate, t.Name)
	}
	if !strings.EqualFold(t.Name, kind) {
		return fmt.Errorf("metadata.name: %q is not the lowercase of spec.crd.spec.names.kind: use %q", t.Name, strings.ToLower(kind))
	}
	if n := len(kind); n > maxKind {
		return fmt.Errorf("spec.crd.spec.names.kind: %d characters long, at most %d are allowed", n, maxKind)
	}
	return nil
}

// fields turns the framework's names of fields into those of the object that
// its author wrote: it validates a constraint below a nameless root, and a
// template's schema as part of a CRD.
var fields = strings.NewReplacer(
	"[].metadata", "metadata",
	"[].spec", "spec",
	"spec.validation.openAPIV3Schema.properties[spec].properties[parameters]", "spec.crd.spec.validation.openAPIV3Schema",
)

// reword returns err with the fields named as their author knows them.
func reword(err error) error {
	if err == nil {
		return nil
	}
	text := fields.Replace(err.Error())
	if text == err.Error() {
		return err
	}
	return reworded{text: text, err: err}
}

// reworded is err by another text.
type reworded struct {
	text string
	err  error
}

func (r reworded) Error() string { return r.text }
func (r reworded) Unwrap() error { return r.err }
