package status

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fusegate/fusegate/pkg/printable"
)

// share is what one writer has in an object's status: an entry of a list in which
// others have theirs, and fields of its own. It is applied under a field manager that
// applies nothing else.
//
// That leaves the others' entries alone if the CRD's schema says that the list is a
// map by key, which those that Fusegate writes say. In a list of unknown structure, as
// in the CRDs of Gatekeeper, an apply replaces all of it. The API server's answer shows
// which of both it is (see wasAtomic); the whole list is then written, on condition
// that nobody has written meanwhile.
//
// A schema may also drop what is written, all of it or a field. That is said once for
// each kind, and the same is not tried again for a while: writing forever what does not
// stay would be a loop wherever each attempt changes the object.
type share struct {
	owner client.FieldOwner
	// list is the name of a field of the status, and key the field by which its
	// entries are told apart.
	list, key string
	entry     map[string]any
	// fields are of the status. Nil removes one, whoever has written it.
	fields map[string]any
	// same compares the entry with what is stored.
	same func(a, b map[string]any) bool
}

// write writes unless object, as last read, has it already. It returns whether it has
// written.
func (s share) write(ctx context.Context, c client.Client, object *unstructured.Unstructured) (bool, error) {
	s.entry, s.fields = printable.Fields(s.entry), printable.Fields(s.fields)
	if s.storedIn(object) || lost.has(s.place(object), s) {
		return false, nil
	}
	after, err := s.put(ctx, c, object)
	if err != nil {
		return true, err
	}
	if err := s.release(ctx, c, after); err != nil {
		return true, err
	}
	if !s.storedIn(after) && lost.note(s.place(object), s) {
		log.FromContext(ctx).Info("the schema of the kind's CRD drops fields of the status, which therefore is not complete",
			"kind", object.GroupVersionKind().GroupKind().String(), "field", "status."+s.list, "example", object.GetName())
	}
	return true, nil
}

// put returns the object as it has become.
func (s share) put(ctx context.Context, c client.Client, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if atomicKinds.has(s.kind(object)) {
		return s.overwrite(ctx, c, object, object)
	}
	after := skeleton(object)
	after.Object["status"] = s.applied()
	err := applyStatus(ctx, c, after, s.owner)
	if unmergeable(err) {
		return s.overwrite(ctx, c, object, object)
	}
	if err != nil {
		return nil, err
	}
	if wasAtomic(after, s.owner, s.list) {
		atomicKinds.add(s.kind(object))
		return s.overwrite(ctx, c, after, object)
	}
	if !s.storedIn(after) {
		// A field that somebody else has written, or that an overwrite left, does not
		// go by an apply without it.
		return s.overwrite(ctx, c, after, after)
	}
	return after, nil
}

func (s share) applied() map[string]any {
	out := map[string]any{s.list: []any{s.entry}}
	for key, value := range s.fields {
		if value != nil {
			out[key] = value
		}
	}
	return out
}

// overwrite puts the entry among those of others, and the fields in the place of those
// in the object's status, if object is the latest.
func (s share) overwrite(ctx context.Context, c client.Client, object, others *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	fields := map[string]any{s.list: append(entriesBut(others, s.list, s.key, s.entry[s.key]), s.entry)}
	for key, value := range s.fields {
		fields[key] = replacing(object, key, value)
	}
	return mergePatch(ctx, c, object, fields, s.owner)
}

// replacing is value as a merge patch has to name it to leave nothing else of a field.
func replacing(object *unstructured.Unstructured, field string, value any) any {
	now, _ := value.(map[string]any)
	before, _, _ := unstructured.NestedMap(object.Object, "status", field)
	if now == nil || before == nil {
		return value
	}
	out := maps.Clone(now)
	for key := range before {
		if _, stays := now[key]; !stays {
			out[key] = nil
		}
	}
	return out
}

// storedIn reports whether the object's status has all of it.
func (s share) storedIn(object *unstructured.Unstructured) bool {
	stored := entriesBy(object, s.list, s.key)[s.id()]
	if stored == nil || !s.same(stored, s.entry) {
		return false
	}
	status, _, _ := unstructured.NestedFieldNoCopy(object.Object, "status")
	fields, _ := status.(map[string]any)
	for key, want := range s.fields {
		if !reflect.DeepEqual(fields[key], want) {
			return false
		}
	}
	return true
}

func (s share) id() string {
	id, _ := s.entry[s.key].(string)
	return id
}

// formerOwners are the field managers under which earlier versions applied conditions.
var formerOwners = []client.FieldOwner{"fusegate/leader", "fusegate/audit"}

// release takes the entry from the manager that applied it in an earlier version, which
// would hold on to it forever. What else that manager applied was the same share.
func (s share) release(ctx context.Context, c client.Client, after *unstructured.Unstructured) error {
	for _, former := range formerOwners {
		owned := ownedEntries(after, former, s.list, s.key)
		if former == s.owner || !slices.Contains(owned, s.id()) {
			continue
		}
		var kept []any
		for id, entry := range entriesBy(after, s.list, s.key) {
			if id != s.id() && slices.Contains(owned, id) {
				kept = append(kept, entry)
			}
		}
		next := skeleton(after)
		if len(kept) > 0 {
			next.Object["status"] = map[string]any{s.list: kept}
		}
		if err := applyStatus(ctx, c, next, former); err != nil {
			return err
		}
		next.DeepCopyInto(after)
	}
	return nil
}

// ownedFields are the fields of a list in the status that a manager has applied, nil if
// it has applied none. The object must have its managed fields.
func ownedFields(object *unstructured.Unstructured, owner client.FieldOwner, list string) map[string]any {
	for _, f := range object.GetManagedFields() {
		if f.Manager != string(owner) || f.Operation != metav1.ManagedFieldsOperationApply || f.Subresource != "status" || f.FieldsV1 == nil {
			continue
		}
		var fields map[string]any
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &fields) != nil {
			return nil
		}
		owned, _, _ := unstructured.NestedMap(fields, "f:status", "f:"+list)
		return owned
	}
	return nil
}

// wasAtomic reports whether an apply of the owner has replaced the list as a whole:
// then it owns the list, and no entry by its key.
func wasAtomic(object *unstructured.Unstructured, owner client.FieldOwner, list string) bool {
	owned := ownedFields(object, owner, list)
	return owned != nil && len(owned) == 0
}

// ownedEntries are the keys of the entries that a manager has applied. Their names in
// managed fields are as in k:{"type":"Ready"}.
func ownedEntries(object *unstructured.Unstructured, owner client.FieldOwner, list, key string) []string {
	var out []string
	for name := range ownedFields(object, owner, list) {
		var id map[string]any
		if len(name) > 2 && json.Unmarshal([]byte(name[2:]), &id) == nil {
			text, _ := id[key].(string)
			out = append(out, text)
		}
	}
	return out
}

// entriesBy returns the entries of a list in an object's status by their key. They are
// the object's own and must not be modified.
func entriesBy(object *unstructured.Unstructured, list, key string) map[string]map[string]any {
	field, _, _ := unstructured.NestedFieldNoCopy(object.Object, "status", list)
	items, _ := field.([]any)
	out := make(map[string]map[string]any, len(items))
	for _, item := range items {
		entry, _ := item.(map[string]any)
		if id, _ := entry[key].(string); id != "" {
			out[id] = entry
		}
	}
	return out
}

// entriesBut are the entries of a list in an object's status, but for that of id.
func entriesBut(object *unstructured.Unstructured, list, key string, id any) []any {
	field, _, _ := unstructured.NestedFieldNoCopy(object.Object, "status", list)
	items, _ := field.([]any)
	out := make([]any, 0, len(items)+1)
	for _, item := range items {
		if entry, _ := item.(map[string]any); entry[key] != id {
			out = append(out, item)
		}
	}
	return out
}
