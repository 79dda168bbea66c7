// Package status is the only writer of any .status. Every process owns its own
// entry of status.byPod by server-side apply under a field manager of its own, and
// so does every type of condition, so no two writers ever share a field.
//
// What is written is made printable on its way, and so are Events: see Recorder.
package status

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/printable"
)

const (
	// maxName is how long a name in a status may be, in bytes, and maxError an error.
	maxName  = 512
	maxError = 8 << 10
)

// Error is one entry of the errors in status.byPod.
type Error struct {
	Code     string
	Message  string
	Location string
}

// The codes of errors that are not about Rego.
const (
	CodeCreate = "create_error"
	CodeIngest = "ingest_error"
	// CodeInventory is for constraints that are not judged by before the data
	// that their policy reads is complete.
	CodeInventory = "inventory_incomplete"
)

// Writer writes the entries of one process.
type Writer struct {
	client client.Client
	pod    string
	roles  []string
}

// NewWriter returns the writer for the process named pod, which serves roles.
func NewWriter(c client.Client, pod string, roles []string) (*Writer, error) {
	if errs := validation.IsDNS1123Subdomain(pod); len(errs) > 0 || len(pod) > 100 {
		return nil, fmt.Errorf("pod name %q: want a lower-case DNS name of at most 100 characters", pod)
	}
	return &Writer{client: c, pod: pod, roles: roles}, nil
}

// manager is the field manager that owns the entries of pod.
func manager(pod string) client.FieldOwner { return client.FieldOwner("fusegate-" + pod) }

// Inventory says whether the data that a template reads is complete.
type Inventory struct {
	Complete bool
	// Message says why not, or what is amiss with it.
	Message string
}

// Template records what this process made of a ConstraintTemplate. inventory is
// nil for one that reads no data; interpreted says why OPA's interpreter judges
// by it, empty if it runs compiled.
func (w *Writer) Template(ctx context.Context, template *unstructured.Unstructured, errs []Error, inventory *Inventory, interpreted string) error {
	entry := w.entry(template, errs)
	if interpreted != "" {
		entry["interpreted"] = interpreted
	}
	entry["templateUID"] = string(template.GetUID())
	if inventory != nil {
		fields := map[string]any{"complete": inventory.Complete}
		if inventory.Message != "" {
			fields["message"] = inventory.Message
		}
		entry["inventory"] = fields
	}
	return w.apply(ctx, template, entry)
}

// Faults are the reviews in which a process could not judge by a constraint.
type Faults struct {
	// Count is since the process started.
	Count int64
	Last  Fault
}

// Fault is one review in which a constraint could not be judged.
type Fault struct {
	Time time.Time
	// Cause is a policy.FaultCause; Message holds nothing of the object.
	Cause, Message string
	// What was asked, and by whom.
	Operation, Kind, Namespace, Name, User string
}

func (f Faults) fields() map[string]any {
	last := map[string]any{"time": f.Last.Time.UTC().Format(time.RFC3339), "cause": f.Last.Cause, "message": printable.TextMax(f.Last.Message, maxError)}
	for key, value := range map[string]string{
		"operation": f.Last.Operation, "kind": f.Last.Kind, "namespace": f.Last.Namespace, "name": f.Last.Name, "user": f.Last.User,
	} {
		if value != "" {
			last[key] = printable.LineMax(value, maxName) // whoever reaches the port can send anything
		}
	}
	return map[string]any{"count": f.Count, "last": last}
}

// Constraint records what this process made of a constraint: whether it judges
// by it, what is wrong with it, and when it could not.
func (w *Writer) Constraint(ctx context.Context, constraint *unstructured.Unstructured, enforced bool, errs []Error, faults Faults) error {
	entry := w.entry(constraint, errs)
	entry["constraintUID"] = string(constraint.GetUID())
	entry["enforced"] = enforced
	if faults.Count > 0 {
		entry["faults"] = faults.fields()
	}
	return w.apply(ctx, constraint, entry)
}

func (w *Writer) entry(object *unstructured.Unstructured, errs []Error) map[string]any {
	entry := map[string]any{
		"id":                 w.pod,
		"observedGeneration": object.GetGeneration(),
	}
	if len(w.roles) > 0 {
		roles := make([]any, len(w.roles))
		for i, r := range w.roles {
			roles[i] = r
		}
		entry["operations"] = roles
	}
	if len(errs) > 0 {
		entry["errors"] = errorList(errs)
	}
	return entry
}

func errorList(errs []Error) []any {
	out := make([]any, len(errs))
	for i, e := range errs {
		m := map[string]any{"code": e.Code, "message": printable.TextMax(e.Message, maxError)}
		if e.Location != "" {
			m["location"] = e.Location
		}
		out[i] = m
	}
	return out
}

// apply writes the entry unless object, as last read, has it already.
func (w *Writer) apply(ctx context.Context, object *unstructured.Unstructured, entry map[string]any) error {
	_, err := share{owner: manager(w.pod), list: "byPod", key: "id", entry: entry, same: sameEntry}.write(ctx, w.client, object)
	return err
}

func sameEntry(a, b map[string]any) bool { return reflect.DeepEqual(a, b) }

// skeleton identifies object and nothing else. The UID makes the apply fail
// when the object has been replaced by another of its name.
func skeleton(object *unstructured.Unstructured) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: map[string]any{}}
	out.SetGroupVersionKind(object.GroupVersionKind())
	out.SetName(object.GetName())
	out.SetUID(object.GetUID())
	return out
}

// applyStatus applies patch, which then is the object as it has become.
func applyStatus(ctx context.Context, c client.Client, patch *unstructured.Unstructured, owner client.FieldOwner) error {
	ref := patch.GetKind() + "/" + patch.GetName()
	patch.Object = printable.Fields(patch.Object) // it is read as YAML, which has no control characters
	err := c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(patch), owner, client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("writing the status of %s: %w", ref, err)
	}
	return nil
}

// Entries returns an object's status.byPod by id. The entries are the object's
// own and must not be modified.
func Entries(object *unstructured.Unstructured) map[string]map[string]any {
	return entriesBy(object, "byPod", "id")
}

// Owns tells whether the process named pod has written to the object's status
// under its own name, and not somebody else an entry with that id. The object
// must have been read with its managed fields.
func Owns(object *unstructured.Unstructured, pod string) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == string(manager(pod)) && f.Operation == metav1.ManagedFieldsOperationApply && f.Subresource == "status"
	})
}

// Forget removes the entry of a process that is gone. The object must have been
// read with its managed fields. The error is a conflict if what is not the
// process's own, by Owns, has to be removed and the object has changed since.
func Forget(ctx context.Context, c client.Client, object *unstructured.Unstructured, pod string) error {
	if Owns(object, pod) {
		// What nobody owns any more is removed; what an overwrite left is not.
		after := skeleton(object)
		err := applyStatus(ctx, c, after, manager(pod))
		if err == nil && Entries(after)[pod] != nil {
			return removeEntry(ctx, c, after, pod)
		}
		if !unmergeable(err) {
			return err
		}
	}
	return removeEntry(ctx, c, object, pod)
}

// removeEntry writes status.byPod without the entry of pod, if object is the latest. No
// other entry is lost: each process makes its own again when it sees it missing.
func removeEntry(ctx context.Context, c client.Client, object *unstructured.Unstructured, pod string) error {
	fields := map[string]any{"byPod": entriesBut(object, "byPod", "id", pod)}
	_, err := mergePatch(ctx, c, object, fields, manager(pod))
	return err
}
