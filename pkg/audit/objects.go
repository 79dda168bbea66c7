package audit

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"unique"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/policy"
)

// objectBatch is how many objects an ObjectSink is given at a time.
const objectBatch = 500

// ObjectSink takes what was found object by object.
type ObjectSink interface {
	// Objects is called about once a second, from one goroutine, also with an
	// empty batch. It may take its time: nothing else waits for it. It returns
	// whether it wants to be given all objects again with which something is
	// wrong.
	Objects(ctx context.Context, batch ObjectBatch) (again bool)
}

// ObjectBatch are objects of which something was found, or was before, since
// the sink was last told.
type ObjectBatch struct {
	Objects []Object
	// Settled tells of a kind whether all of its objects with which something
	// is wrong have been given, with this batch: whatever is said of others is
	// out of date.
	Settled func(schema.GroupKind) bool
}

// Object is what is known of one object. It must not be changed.
type Object struct {
	// Kind has no version if the kind is not audited any more.
	Kind            schema.GroupVersionKind
	Namespace, Name string
	// UID is empty if nothing is wrong with the object, or it is gone.
	UID types.UID
	// Exempt objects are outside the perimeter.
	Exempt bool
	// Findings are sorted by constraint and message.
	Findings []Finding
}

// Finding is one violation, or a verdict that could not be had.
type Finding struct {
	Constraint policy.Constraint
	// Message is cut as in a status. Of a Fault it says what went wrong.
	Message string
	Fault   bool
}

// objectRef names an object whatever version it is read in.
type objectRef struct {
	kind schema.GroupKind
	key  objectKey
}

// moved notes that something has changed about an object. The caller holds the
// lock.
func (k *kind) moved(key objectKey) {
	if k.a.o.Objects != nil {
		k.a.changedObjects[objectRef{k.gvk.GroupKind(), key.clone()}] = struct{}{}
	}
}

// reworded has the sink told again of what a constraint has found if it is to be
// told otherwise, as with another action: the verdicts stay what they are, so that
// nothing else has the objects told. The caller holds the lock.
func (a *Auditor) reworded(c *constraint, to policy.Constraint) {
	if a.o.Objects == nil || reflect.DeepEqual(c.scope.Constraint, to) {
		return
	}
	by := func(f finding) bool { return f.by == c }
	for _, k := range a.kinds {
		if !k.constraints[c] {
			continue
		}
		for key, r := range k.records {
			if slices.ContainsFunc(r.findings, by) || slices.ContainsFunc(r.held, by) {
				k.moved(key)
			}
		}
	}
}

// held stands for constraints that wait for data, of an object with which
// something else is wrong, or by which something was found before: it was not
// found to be right.
func (k *kind) held(before, now *record, result policy.Result) (out []finding) {
	if before == nil {
		before = &record{}
	}
	for _, f := range result.Faults {
		c := k.a.known[name{f.Constraint.Kind, f.Constraint.Name}]
		found := func(x finding) bool { return x.by == c }
		if f.Cause != policy.CauseInventory || c == nil || !k.constraints[c] {
			continue
		}
		if len(now.findings) > 0 || slices.ContainsFunc(before.findings, found) || slices.ContainsFunc(before.held, found) {
			out = append(out, finding{by: c, message: unique.Make(cut(string(f.Cause) + ": " + f.Summary())), fault: true})
		}
	}
	return out
}

// publishObjects hands objects to their sink until ctx ends.
func (a *Auditor) publishObjects(ctx context.Context) {
	for a.sleep(ctx, a.o.Timings.AuditRound) {
		for more := a.isPlanned(); more && ctx.Err() == nil; {
			var batch ObjectBatch
			batch, more = a.takeObjects(objectBatch)
			if a.o.Objects.Objects(ctx, batch) {
				a.allObjects()
			}
		}
	}
}

// takeObjects returns up to n of the objects that have changed, and whether
// there are more.
func (a *Auditor) takeObjects(n int) (batch ObjectBatch, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ref := range a.changedObjects {
		if len(batch.Objects) == n {
			batch.Settled = func(schema.GroupKind) bool { return false }
			return batch, true
		}
		batch.Objects = append(batch.Objects, a.object(ref))
		delete(a.changedObjects, ref)
	}
	batch.Settled = a.settled()
	return batch, false
}

// object returns what is known of an object. The caller holds the lock.
func (a *Auditor) object(ref objectRef) Object {
	out := Object{Kind: ref.kind.WithVersion(""), Namespace: ref.key.namespace, Name: ref.key.name}
	k := a.kinds[ref.kind]
	if k == nil {
		return out
	}
	out.Kind = k.gvk
	r := k.records[ref.key]
	if r == nil {
		return out
	}
	if len(r.findings)+len(r.held) > 0 {
		out.UID = r.uid
	}
	out.Exempt = r.exempt
	for _, f := range slices.Concat(r.findings, r.held) {
		out.Findings = append(out.Findings, Finding{Constraint: f.by.scope.Constraint, Message: f.message.Value(), Fault: f.fault})
	}
	return out
}

// allObjects has the sink be given everything again.
func (a *Auditor) allObjects() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.kinds {
		for key := range k.records {
			k.moved(key)
		}
	}
}

// settled tells of kinds, as of now, whether all that is wrong with their
// objects is known. A kind that no constraint matches any more has none. The
// caller holds the lock.
func (a *Auditor) settled() func(schema.GroupKind) bool {
	kinds, unserved := map[schema.GroupKind]bool{}, maps.Clone(a.unserved)
	for gk, k := range a.kinds {
		kinds[gk] = !k.sweptAt.IsZero() && k.swept >= k.wanted
		for c := range k.constraints {
			kinds[gk] = kinds[gk] && c.scope.Withheld == nil
		}
	}
	return func(gk schema.GroupKind) bool {
		if settled, known := kinds[gk]; known {
			return settled
		}
		return failedFor(unserved, gk.Group) == nil
	}
}
