package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/rego"
)

// AnnotationRequires is the annotation of a template that names the kinds whose
// objects it wants to find in data.inventory. It is Gatekeeper's.
const AnnotationRequires = "metadata.gatekeeper.sh/requires-sync-data"

// InventoryRead is a kind that a template's code reads in data.inventory; what
// is empty is not known before it runs.
type InventoryRead = rego.InventoryRead

// Need is what a template's code wants to find in data.inventory.
type Need struct {
	// Template is the template's name, and Kind that of its constraints.
	Template, Kind string
	// Requires are the kinds that the template names: of each entry one of the
	// kinds, in the template's order, is enough.
	Requires [][]schema.GroupVersionKind
	// Problem is why what the template names cannot be read.
	Problem error
	// Reads are never empty.
	Reads []InventoryRead
}

// MayRead tells whether the template's code may look at objects of the kind.
func (n Need) MayRead(gvk schema.GroupVersionKind) bool {
	for _, r := range n.Reads {
		if (r.GroupVersion == "" || r.GroupVersion == gvk.GroupVersion().String()) && (r.Kind == "" || r.Kind == gvk.Kind) {
			return true
		}
	}
	return false
}

func needOf(t *Template, reads []InventoryRead) Need {
	n := Need{Template: t.Name, Kind: t.Spec.CRD.Spec.Names.Kind, Reads: reads}
	if text, found := t.Annotations[AnnotationRequires]; found {
		n.Requires, n.Problem = parseRequires(text)
	}
	return n
}

// maxRequires bounds the kinds that a template may name: all that templates name
// is followed, and lists of groups, versions and kinds multiply.
const maxRequires = 500

// parseRequires reads the annotation: a list of lists of kinds in JSON, most
// often inside double quotes, as in
//
//	"[[{"groups": ["apps"], "versions": ["v1"], "kinds": ["Deployment"]}]]"
//
// The outer list is of what is required, an inner one of what can stand for
// each other (Gatekeeper's pkg/syncutil/parser).
func parseRequires(text string) ([][]schema.GroupVersionKind, error) {
	var compact [][]struct{ Groups, Versions, Kinds []string }
	d := json.NewDecoder(strings.NewReader(strings.Trim(text, " \t\r\n\"")))
	d.DisallowUnknownFields()
	if err := d.Decode(&compact); err != nil {
		return nil, fmt.Errorf("metadata.annotations[%s]: want a list of lists of {groups, versions, kinds}: %w", AnnotationRequires, err)
	}
	out := make([][]schema.GroupVersionKind, len(compact))
	total := 0
	for i, alternatives := range compact {
		for _, a := range alternatives {
			if total += len(a.Groups) * len(a.Versions) * len(a.Kinds); total > maxRequires {
				return nil, fmt.Errorf("metadata.annotations[%s]: entry %d names so many groups, versions and kinds that there are more than %d together: name what the policy reads", AnnotationRequires, i, maxRequires)
			}
			out[i] = append(out[i], expand(a.Groups, a.Versions, a.Kinds)...)
		}
		if len(out[i]) == 0 {
			return nil, fmt.Errorf("metadata.annotations[%s]: entry %d names no kind", AnnotationRequires, i)
		}
	}
	return out, nil
}

func expand(groups, versions, kinds []string) []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for _, group := range groups {
		for _, version := range versions {
			for _, kind := range kinds {
				out = append(out, schema.GroupVersionKind{Group: group, Version: version, Kind: kind})
			}
		}
	}
	return out
}

// errNotLooked is why a policy is not judged by at first.
var errNotLooked = errors.New("the objects that it reads are not known yet")

// AwaitInventory has constraints whose template reads data.inventory judged
// only once SetInventory says that their data is complete. Without it they are
// judged by whatever data there is. It is to be called first of all.
func (e *Engine) AwaitInventory() {
	e.registry.mu.Lock()
	defer e.registry.mu.Unlock()
	e.registry.awaits = true
}

// InventoryNeeds lists what the templates want to find in data.inventory, of
// those that read it.
func (e *Engine) InventoryNeeds() []Need {
	e.registry.mu.Lock()
	defer e.registry.mu.Unlock()
	var out []Need
	for _, n := range e.registry.needs {
		out = append(out, n)
	}
	return out
}

// SetInventory says whether the data that a template wants is complete: why is
// nil, or why it is not. It tells whether that is new, and has no effect if the
// template has meanwhile come to want something else.
func (e *Engine) SetInventory(n Need, why error) (changed bool) {
	return e.registry.setInventory(n, why)
}

// SetInventoryStale says what of the data that a template wants is complete but
// not followed any more, and since when; stale is empty if all of it is. It tells
// whether that is new, and has no effect if the template has meanwhile come to
// want something else. Constraints are judged all the same.
func (e *Engine) SetInventoryStale(n Need, stale string) (changed bool) {
	return e.registry.setStale(n, stale)
}

// Withheld is why no constraint of a kind is judged: its data is not complete;
// nil if they are.
func (e *Engine) Withheld(kind string) error {
	e.registry.mu.Lock()
	defer e.registry.mu.Unlock()
	return e.registry.withheld[strings.ToLower(kind)]
}

// DataEdit says what is to lie at a path of data.inventory: an object with these
// documents by key, or nothing if there are none. The documents are decoded JSON
// and the engine's from then on.
type DataEdit = rego.Edit

// UpdateData makes all edits of data.inventory at once, or none.
func (e *Engine) UpdateData(edits []DataEdit) error { return e.rego.UpdateData(edits) }

// GetData returns what lies at path in data.inventory. It must not be modified.
func (e *Engine) GetData(path []string) (any, bool) { return e.rego.GetData(path) }

// DataChanged says that objects of these kinds have changed in data.inventory,
// which may have changed the verdicts of the templates that read them.
func (e *Engine) DataChanged(kinds []schema.GroupVersionKind) {
	e.registry.dataChanged(kinds)
}

// setNeed takes over what a template wants. The caller holds the lock.
func (r *registry) setNeed(n Need) {
	before := r.needs[n.Template]
	delete(r.needs, n.Template)
	if len(n.Reads) == 0 {
		delete(r.withheld, n.Template)
		delete(r.stale, n.Template)
		return
	}
	r.needs[n.Template] = n
	if reflect.DeepEqual(before, n) {
		return
	}
	delete(r.stale, n.Template)
	if r.awaits {
		r.withheld[n.Template] = errNotLooked
	}
}

func (r *registry) setInventory(n Need, why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.withheld[n.Template]
	if !reflect.DeepEqual(r.needs[n.Template], n) || text(before) == text(why) {
		return false
	}
	delete(r.withheld, n.Template)
	if why != nil {
		r.withheld[n.Template] = why
	}
	r.revision++
	r.change(n.Template, func(x *entry) { x.withheld, x.revision = why, r.revision })
	r.publish()
	r.notify()
	return true
}

func (r *registry) setStale(n Need, stale string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !reflect.DeepEqual(r.needs[n.Template], n) || r.stale[n.Template] == stale {
		return false
	}
	delete(r.stale, n.Template)
	if stale != "" {
		r.stale[n.Template] = stale
	}
	r.change(n.Template, func(x *entry) { x.stale = stale })
	r.publish()
	r.notify()
	return true
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (r *registry) dataChanged(kinds []schema.GroupVersionKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision++
	found := false
	for template, n := range r.needs {
		for _, gvk := range kinds {
			if len(r.entries[template]) > 0 && n.MayRead(gvk) {
				found = true
				r.change(template, func(x *entry) { x.data = r.revision })
				break
			}
		}
	}
	if found {
		r.publish()
		r.notify()
	}
}

// change replaces the constraints of a template by changed ones. The caller
// holds the lock, and publishes.
func (r *registry) change(template string, f func(*entry)) {
	for name, x := range r.entries[template] {
		changed := *x
		f(&changed)
		r.edits.remove(x)
		r.edits.add(&changed)
		r.entries[template][name] = &changed
	}
}
