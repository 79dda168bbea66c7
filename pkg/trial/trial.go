// Package trial judges manifests by templates and constraints from manifests,
// with the engine that judges in a cluster and without one. What a cluster would
// know besides is taken from the manifests as well: namespaces, and what
// referential policies read.
//
// The manifests are read twice, so that no more than the policies, the
// namespaces and the objects under review need be held: once for what objects
// are judged by, once for the objects.
package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/manifest"
	"github.com/fusegate/fusegate/pkg/output"
	"github.com/fusegate/fusegate/pkg/policies"
	"github.com/fusegate/fusegate/pkg/policy"
)

// DefaultNamespace is where kubectl puts what names no namespace.
const DefaultNamespace = "default"

// Options say what to judge.
type Options struct {
	// Input are the manifests: policies, namespaces and objects together. Its
	// Want is not used.
	Input manifest.Options
	// Namespace is that of objects of namespaced kinds that name none; empty
	// stands for DefaultNamespace.
	Namespace string
	// Workers is how many objects are judged at a time; at least one is.
	Workers int
	// Compiler tries the templates; nil has them compiled without limits.
	Compiler engine.Compiler
	// Progress is called now and then with how many objects have been judged. It
	// must not take long.
	Progress func(objects int)
}

// Errors of Run.
var (
	ErrNoConstraints = errors.New("no constraint was given, so that there is nothing to judge by: add the files of the ConstraintTemplates and constraints")
	ErrNoObjects     = errors.New("no object was given besides templates and constraints, so that nothing was judged")
)

// Trial is what objects are judged by. It does not change once it is prepared.
type Trial struct {
	o           Options
	engine      *engine.Engine
	set         *policies.Set
	constraints int
	problems    []output.Problem
	// scopes says of kinds whose CustomResourceDefinition was given whether they
	// are namespaced.
	scopes     map[string]bool
	namespaces map[string]manifest.Object
	// built is what the kustomizations gave.
	built []read
}

// read is what manifest.Read yields.
type read struct {
	object manifest.Object
	err    error
}

// Prepare reads what objects are judged by. The error is the end of ctx, or that
// of reading standard input.
func Prepare(ctx context.Context, o Options) (*Trial, error) {
	e, err := engine.New()
	if err != nil {
		return nil, err
	}
	e.CompileBy(o.Compiler)
	t := &Trial{o: o, engine: e, set: &policies.Set{Note: o.Input.Note}, scopes: map[string]bool{}, namespaces: map[string]manifest.Object{}}
	if err := t.keep(ctx); err != nil {
		return nil, err
	}
	for object, err := range t.read(ctx, mayGovern, nil) {
		if err == nil {
			t.govern(object)
		} else if !isProblem(err) {
			return nil, err
		}
	}
	added, problems := t.set.Load(ctx, e)
	t.constraints, t.problems = added, append(t.problems, problems...)
	return t, t.fillInventory(ctx)
}

// keep makes what can be read only once readable twice.
func (t *Trial) keep(ctx context.Context) error {
	if slices.Contains(t.o.Input.Paths, manifest.Stdin) && t.o.Input.Stdin != nil {
		text, err := io.ReadAll(t.o.Input.Stdin)
		if err != nil {
			return fmt.Errorf("reading standard input: %w", err)
		}
		t.o.Input.Stdin = bytes.NewReader(text)
	}
	built := manifest.Options{Kustomize: t.o.Input.Kustomize}
	for object, err := range manifest.Read(ctx, built) {
		if err != nil && !isProblem(err) {
			return err
		}
		t.built = append(t.built, read{object, err})
	}
	t.o.Input.Kustomize = nil
	return nil
}

func isProblem(err error) bool {
	var p output.Problem
	return errors.As(err, &p)
}

// read reads the manifests once more.
func (t *Trial) read(ctx context.Context, want func([]byte) bool, note func(output.Problem)) iter.Seq2[manifest.Object, error] {
	o := t.o.Input
	o.Want, o.Note = want, note
	if seeker, ok := o.Stdin.(io.Seeker); ok {
		_, _ = seeker.Seek(0, io.SeekStart) // of a bytes.Reader, which cannot fail
	}
	return func(yield func(manifest.Object, error) bool) {
		for object, err := range manifest.Read(ctx, o) {
			if !yield(object, err) {
				return
			}
		}
		for _, r := range t.built {
			if !yield(manifest.Object{Unstructured: r.object.DeepCopy(), File: r.object.File, Line: r.object.Line}, r.err) {
				return
			}
		}
	}
}

// mayGovern tells by the text of an object whether others may be judged by it.
func mayGovern(text []byte) bool {
	for _, word := range []string{engine.TemplateGroup, engine.ConstraintGroup, "Namespace", "CustomResourceDefinition"} {
		if bytes.Contains(text, []byte(word)) {
			return true
		}
	}
	return false
}

// govern takes what others are judged by.
func (t *Trial) govern(o manifest.Object) {
	gk := o.GroupVersionKind().GroupKind().String()
	switch {
	case t.set.Add(o):
	case gk == "Namespace":
		t.namespace(o)
	case gk == "CustomResourceDefinition.apiextensions.k8s.io":
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
		scope, _, _ := unstructured.NestedString(o.Object, "spec", "scope")
		t.scopes[group+"/"+kind] = scope == "Namespaced"
	}
}

func (t *Trial) namespace(o manifest.Object) {
	first, ok := t.namespaces[o.GetName()]
	if !ok {
		t.namespaces[o.GetName()] = o
		return
	}
	if !equalLabels(first, o) {
		t.problems = append(t.problems, output.Problem{File: o.File, Line: o.Line, Err: fmt.Errorf(
			"%s %w: it is also, with other labels, at %s; keep one", manifest.Name(o.Unstructured), manifest.ErrDuplicate, first.Place())})
	}
}

func equalLabels(a, b manifest.Object) bool {
	x, y := a.GetLabels(), b.GetLabels()
	if len(x) != len(y) {
		return false
	}
	for k, v := range x {
		if y[k] != v {
			return false
		}
	}
	return true
}

// fillInventory gives the engine all objects, if a policy may look at them.
func (t *Trial) fillInventory(ctx context.Context) error {
	if len(t.engine.InventoryNeeds()) == 0 {
		return nil
	}
	for object, err := range t.read(ctx, nil, nil) {
		if err != nil && !isProblem(err) {
			return err
		}
		if err != nil || isMachinery(object.Unstructured) || isAdmissionReview(object.Unstructured) {
			continue
		}
		t.settle(object.Unstructured)
		path := inventoryPath(object.Unstructured)
		if err := t.engine.AddData(ctx, path, object.Object); err != nil {
			return fmt.Errorf("giving policies %s to read: %w", manifest.Name(object.Unstructured), err)
		}
	}
	return nil
}

// inventoryPath is where policies look for an object.
func inventoryPath(u *unstructured.Unstructured) []string {
	if ns := u.GetNamespace(); ns != "" {
		return []string{"namespace", ns, u.GetAPIVersion(), u.GetKind(), u.GetName()}
	}
	return []string{"cluster", u.GetAPIVersion(), u.GetKind(), u.GetName()}
}

// isMachinery tells whether an object is a policy, or a test of one.
func isMachinery(u *unstructured.Unstructured) bool {
	return policies.IsTemplate(u) || policies.IsConstraint(u) || u.GroupVersionKind().Group == "test.gatekeeper.sh"
}

// settle puts an object of a namespaced kind into the namespace that the API
// server would put it into.
func (t *Trial) settle(u *unstructured.Unstructured) {
	if u.GetNamespace() != "" || !t.namespaced(u) {
		return
	}
	namespace := t.o.Namespace
	if namespace == "" {
		namespace = DefaultNamespace
	}
	u.SetNamespace(namespace)
}

// namespaced tells whether a kind lives in namespaces, as far as is known: kinds
// of Kubernetes, and those whose definition was given.
func (t *Trial) namespaced(u *unstructured.Unstructured) bool {
	if scope, ok := t.scopes[u.GroupVersionKind().Group+"/"+u.GetKind()]; ok {
		return scope
	}
	namespaced, known := openapi.IsNamespaceScoped(yaml.TypeMeta{APIVersion: u.GetAPIVersion(), Kind: u.GetKind()})
	return known && namespaced
}

// lookup is the Namespace that an object lives in.
func (t *Trial) lookup(name string) policy.Namespace {
	o, ok := t.namespaces[name]
	if !ok {
		return policy.Namespace{}
	}
	return policy.Namespace{Known: true, Object: o.Object}
}
