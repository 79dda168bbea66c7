package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/status"
)

// refusal is why a version of a template is not in the engine.
type refusal struct {
	version
	errs []status.Error
}

func (i *Ingest) template(ctx context.Context, k key) error {
	u := newObject(templateGVK())
	err := i.cache.Get(ctx, client.ObjectKey{Name: k.name}, u)
	if apierrors.IsNotFound(err) {
		return i.removeTemplate(ctx, k)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", k, err)
	}
	crd, err := i.definition(ctx, k.name)
	if err != nil {
		return err
	}
	errs, err := i.compile(ctx, u, crd)
	if err != nil {
		return err
	}
	if err := i.follow(ctx, k.name, crd); err != nil {
		return err
	}
	if len(errs) > 0 {
		i.readiness.waived(k.name)
	}
	i.readiness.observed(k)
	r := report{object: reported(u), errs: errs, inventory: i.inventoryOf(k.name)}
	if why := i.engine.Interpreted()[kindOf(u)]; why != nil {
		r.interpreted = why.Error()
	}
	i.reports.put(k, r)
	return i.withheld(ctx, k.name)
}

// Reconsider has the status of a template written anew. It does not block.
func (i *Ingest) Reconsider(kind string) { i.faults.again(key{name: strings.ToLower(kind)}) }

// inventoryOf is what there is to say about the data of a template, nil if it
// reads none.
func (i *Ingest) inventoryOf(template string) *status.Inventory {
	if i.inventory == nil {
		return nil
	}
	s, known := i.inventory.State(template)
	if !known {
		return nil
	}
	return &status.Inventory{Complete: s.Complete, Message: s.Message}
}

// withheld has the constraints of a template reported when it has changed
// whether they are judged by.
func (i *Ingest) withheld(ctx context.Context, template string) error {
	now := ""
	if err := i.engine.Withheld(template); err != nil {
		now = err.Error()
	}
	if i.data[template] == now {
		return nil
	}
	if err := i.requeueConstraints(ctx, i.watches.kind(template)); err != nil {
		return err
	}
	i.data[template] = now
	return nil
}

// definition returns the CRD of a template's constraint kind, nil if there is
// none.
func (i *Ingest) definition(ctx context.Context, template string) (*apiextensionsv1.CustomResourceDefinition, error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	err := i.cache.Get(ctx, client.ObjectKey{Name: crdName(template)}, crd)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading CRD %s: %w", crdName(template), err)
	}
	return crd, nil
}

// compile puts the template into the engine, unless this version of it is
// there already or was refused before. It returns what is wrong with it.
func (i *Ingest) compile(ctx context.Context, u *unstructured.Unstructured, crd *apiextensionsv1.CustomResourceDefinition) ([]status.Error, error) {
	if problem := otherKind(u, crd); problem != "" {
		return []status.Error{{Code: status.CodeCreate, Message: problem}}, nil
	}
	name := u.GetName()
	now := version{uid: u.GetUID(), generation: u.GetGeneration(), kind: kindOf(u), requires: u.GetAnnotations()[engine.AnnotationRequires]}
	before, known := i.ingested[name]
	if before == now {
		return nil, nil
	}
	if r, refused := i.refused[name]; refused && r.version == now {
		return r.errs, nil
	}
	if known && before.kind != now.kind && strings.EqualFold(now.kind, name) {
		// The engine must not keep constraints of a kind that is gone.
		if err := i.forgetTemplate(ctx, name); err != nil {
			return nil, err
		}
	}
	t, err := engine.ParseTemplate(u)
	if err == nil {
		err = i.engine.AddTemplate(ctx, t)
	}
	if err != nil {
		return i.refuse(ctx, name, now, err)
	}
	if err := i.requeueConstraints(ctx, now.kind); err != nil {
		return nil, err
	}
	delete(i.refused, name)
	i.ingested[name] = now
	i.log.Info("template ingested", "template", name, "generation", now.generation)
	i.notify()
	return nil, nil
}

// noAnswerAgain is when a template is tried again about which the compiler gave no
// answer.
const noAnswerAgain = 5 * time.Second

// refuse remembers that a version of a template does not compile; one about which
// the compiler gave no answer has an error as well, so that nothing waits for it,
// and is tried again. The version before it stays in force, unless it was another
// object of the same name: that one was deleted.
func (i *Ingest) refuse(ctx context.Context, name string, now version, err error) ([]status.Error, error) {
	if before, known := i.ingested[name]; known && before.uid != now.uid {
		if err := i.forgetTemplate(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := i.requeueConstraints(ctx, i.watches.kind(name)); err != nil {
		return nil, err
	}
	i.log.Error(err, "template not ingested", "template", name, "generation", now.generation)
	errs := templateErrors(err)
	if errors.Is(err, engine.ErrNoAnswer) {
		i.queue.AddAfter(key{name: name}, noAnswerAgain)
		return errs, nil
	}
	i.refused[name] = refusal{version: now, errs: errs}
	return errs, nil
}

func kindOf(template *unstructured.Unstructured) string {
	kind, _, _ := unstructured.NestedString(template.Object, "spec", "crd", "spec", "names", "kind")
	return kind
}

// otherKind says what is wrong when the template's CRD serves its kind in
// another case. A CRD's kind cannot be changed. A kind that is not the
// template's at all is left to the engine to refuse.
func otherKind(template *unstructured.Unstructured, crd *apiextensionsv1.CustomResourceDefinition) string {
	kind := kindOf(template)
	if crd == nil || crd.Spec.Names.Kind == kind || !strings.EqualFold(kind, template.GetName()) {
		return ""
	}
	return fmt.Sprintf("spec.crd.spec.names.kind: %q cannot take the place of %q, which CRD %s serves: delete the template, with its constraints, and create it again",
		kind, crd.Spec.Names.Kind, crd.Name)
}

// templateErrors lists what is wrong with a template, with the position in the
// Rego source where there is one.
func templateErrors(err error) []status.Error {
	var out []status.Error
	for _, p := range engine.Problems(err) {
		out = append(out, status.Error{Code: cmp.Or(p.Code, status.CodeCreate), Message: p.Message, Location: p.Location})
	}
	return out
}

// removeTemplate forgets a template that is gone. Its CRD may stay: somebody has
// deleted the template with --cascade=orphan, or a constraint has a finalizer.
func (i *Ingest) removeTemplate(ctx context.Context, k key) error {
	if err := i.forgetTemplate(ctx, k.name); err != nil {
		return err
	}
	delete(i.refused, k.name)
	delete(i.data, k.name)
	i.readiness.waived(k.name)
	i.readiness.observed(k)
	i.reports.drop(k)
	crd, err := i.definition(ctx, k.name)
	if err != nil {
		return err
	}
	if err := i.follow(ctx, k.name, crd); err != nil {
		return err
	}
	return i.requeueConstraints(ctx, i.watches.kind(k.name))
}

// forgetTemplate takes a template and its constraints out of the engine.
func (i *Ingest) forgetTemplate(ctx context.Context, name string) error {
	if err := i.engine.RemoveTemplate(ctx, name); err != nil {
		return fmt.Errorf("removing ConstraintTemplate/%s: %w", name, err)
	}
	v, known := i.ingested[name]
	if !known {
		return nil
	}
	i.log.Info("template removed", "template", name)
	delete(i.ingested, name)
	for k := range i.inForce {
		if k.kind == v.kind {
			delete(i.inForce, k)
			i.faults.drop(k)
		}
	}
	maps.DeleteFunc(i.rejected, func(k key, _ rejection) bool { return k.kind == v.kind })
	i.notify()
	return nil
}

// follow watches the constraints of the version of a template that is in force,
// once their CRD serves them; the CRD's own event comes back here when it does.
// If no version is in force it watches what there is, to say so in its status.
func (i *Ingest) follow(ctx context.Context, template string, crd *apiextensionsv1.CustomResourceDefinition) error {
	if crd == nil {
		return i.unfollow(ctx, template)
	}
	kind := cmp.Or(i.ingested[template].kind, crd.Spec.Names.Kind)
	if !strings.EqualFold(kind, template) || !served(crd, kind) || !readable(crd) {
		return nil
	}
	anew, err := i.watches.add(ctx, template, kind, crd.UID)
	if anew {
		i.requeueInForce(kind)
	}
	return err
}

// unfollow forgets the constraints of a template whose CRD is gone. One that
// only lacks the label by which it is cached is not gone.
func (i *Ingest) unfollow(ctx context.Context, template string) error {
	kind := i.watches.kind(template)
	if kind == "" {
		return nil
	}
	err := i.live.Get(ctx, client.ObjectKey{Name: crdName(template)}, &apiextensionsv1.CustomResourceDefinition{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading CRD %s: %w", crdName(template), err)
	}
	for k := range i.inForce {
		if k.kind != kind {
			continue
		}
		if err := i.removeConstraint(ctx, k); err != nil {
			return err
		}
	}
	maps.DeleteFunc(i.rejected, func(k key, _ rejection) bool { return k.kind == kind })
	i.reports.dropKind(kind)
	i.absences.dropKind(kind)
	return i.watches.remove(ctx, template)
}

// served tells whether constraints of kind can be read. Those of a CRD that is
// being deleted can, and are in force until they are gone.
func served(crd *apiextensionsv1.CustomResourceDefinition, kind string) bool {
	if crd.Spec.Names.Kind != kind {
		return false
	}
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// readable tells whether a CRD has the version in which constraints are read. One
// that Fusegate has not made may lack it.
func readable(crd *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(crd.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool {
		return v.Name == constraintGVK(crd.Spec.Names.Kind).Version && v.Served
	})
}

// requeueConstraints has the constraints of kind checked against a template
// that has changed. Before the first list of them there is nothing to do: each
// is about to come.
func (i *Ingest) requeueConstraints(ctx context.Context, kind string) error {
	if !i.watches.synced(kind) {
		return nil
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(constraintGVK(kind + "List"))
	if err := i.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing constraints of kind %s: %w", kind, err)
	}
	for _, u := range list.Items {
		i.queue.Add(key{kind: kind, name: u.GetName()})
	}
	return nil
}

// requeueInForce has the constraints in the engine looked up again: a new watch
// does not tell which of them have gone since the old one ended.
func (i *Ingest) requeueInForce(kind string) {
	for k := range i.inForce {
		if k.kind == kind {
			i.queue.Add(k)
		}
	}
}
