package audit

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unique"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
)

// maxMessage is how long a message in a status may be, in bytes
// (Gatekeeper's pkg/audit, msgSize).
const maxMessage = 256

// review judges an object and puts what comes of it into the tally. It is
// judged again if meanwhile constraints or its namespace have changed. r is the
// reading that the object was listed by, nil if it is of an event.
func (k *kind) review(ctx context.Context, u *unstructured.Unstructured, r *reading) {
	key := keyOf(u)
	for !k.outdated(r, key) {
		sequence := k.a.sequenceNow()
		namespace := k.a.namespaces.get(key.namespace)
		result := k.judge(ctx, u, namespace, r)
		if ctx.Err() != nil || k.record(r, u, sequence, namespace, result) {
			return
		}
	}
}

// work waits for a worker that has nothing to do.
func (a *Auditor) work(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case a.workers <- struct{}{}:
		return true
	}
}

func (a *Auditor) rest() { <-a.workers }

func (a *Auditor) sequenceNow() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sequence
}

// outdated tells whether something newer is known than the list that r is.
func (k *kind) outdated(r *reading, key objectKey) bool {
	if r == nil {
		return false
	}
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	return r.touched[key]
}

// judge reviews an object as Gatekeeper's audit does: as a request that says
// what the object is, and neither what is done to it nor by whom (Gatekeeper's
// pkg/target, unstructuredToAdmissionRequest).
func (k *kind) judge(ctx context.Context, u *unstructured.Unstructured, namespace *knownNamespace, r *reading) policy.Result {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	k.a.metrics.reviewed.WithLabelValues(k.gvk.Group, k.gvk.Kind).Inc()
	review := &policy.Review{
		Kind: k.gvk, Name: u.GetName(), Namespace: u.GetNamespace(), Object: u.Object,
		Source: policy.SourceOriginal, Point: policy.PointAudit,
	}
	if namespace != nil {
		review.NamespaceObject = policy.Namespace{Known: true, Object: namespace.object}
	}
	if r == nil || r.only == nil {
		return k.a.o.Reviewer.Review(ctx, review)
	}
	return k.a.o.Reviewer.ReviewBy(ctx, review, r.asks)
}

// asks tells whether a constraint is one of those that judge.
func (r *reading) asks(kind, called string) bool {
	for c := range r.only {
		if c.name == (name{kind, called}) {
			return true
		}
	}
	return false
}

// record puts a result into the tally unless what it rests on has changed.
func (k *kind) record(r *reading, u *unstructured.Unstructured, sequence uint64, namespace *knownNamespace, result policy.Result) bool {
	key := keyOf(u)
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	if k.a.sequence != sequence || k.a.namespaces.get(key.namespace) != namespace {
		return false
	}
	if r != nil && r.touched[key] {
		return true
	}
	now := &record{exempt: k.exempt(key), findings: k.findings(result)}
	if !now.exempt {
		now.costs = k.costs(result)
	}
	before := k.records[key]
	if k.a.o.Objects != nil {
		now.uid = types.UID(strings.Clone(string(u.GetUID())))
		now.held = k.held(before, now, result)
	}
	if r != nil {
		now.reading = r.id
		now.keep(before, r.only)
		if r.compare && !now.same(before) {
			r.changed[key.clone()] = true
		}
	}
	if now.equal(before) {
		before.reading = max(before.reading, now.reading)
		return true
	}
	if !now.empty() {
		key = key.clone() // a map takes over the key each time
	}
	k.put(key, now)
	return true
}

// exempt tells whether an object lies outside the perimeter, so that nothing
// can be enforced on it.
func (k *kind) exempt(key objectKey) bool {
	namespace := key.namespace
	if k.gvk.Group == "" && k.gvk.Kind == "Namespace" {
		namespace = key.name
	}
	return namespace != "" && k.a.o.Perimeter.ExemptNamespace(namespace)
}

// findings are those of constraints that are known to match the kind.
func (k *kind) findings(result policy.Result) []finding {
	var out []finding
	for _, v := range result.Violations {
		if c := k.a.known[name{v.Constraint.Kind, v.Constraint.Name}]; c != nil && k.constraints[c] {
			out = append(out, finding{by: c, message: unique.Make(cut(v.Message))})
		}
	}
	for _, f := range result.Faults {
		if f.Cause == policy.CauseInventory {
			continue // the constraint says so, not each object
		}
		if c := k.a.known[name{f.Constraint.Kind, f.Constraint.Name}]; c != nil && k.constraints[c] {
			out = append(out, finding{by: c, message: unique.Make(cut(string(f.Cause) + ": " + f.Summary())), fault: true})
		}
	}
	slices.SortStableFunc(out, compareFindings)
	return slices.Clip(out)
}

// costs are those of constraints that are known to match the kind.
func (k *kind) costs(result policy.Result) (out []cost) {
	for _, x := range result.Costs {
		if c := k.a.known[name{x.Constraint.Kind, x.Constraint.Name}]; c != nil && k.constraints[c] {
			out = append(out, cost{c, x.Percent})
		}
	}
	slices.SortFunc(out, compareCosts)
	return out
}

func compareCosts(a, b cost) int {
	return cmp.Or(cmp.Compare(a.by.name.kind, b.by.name.kind), cmp.Compare(a.by.name.name, b.by.name.name))
}

func compareFindings(a, b finding) int {
	return cmp.Or(cmp.Compare(a.by.name.kind, b.by.name.kind), cmp.Compare(a.by.name.name, b.by.name.name),
		cmp.Compare(a.message.Value(), b.message.Value()))
}

// keep takes over what those constraints found before that were not asked now.
func (r *record) keep(before *record, asked map[*constraint]bool) {
	if before == nil || asked == nil {
		return
	}
	kept := before.without(asked)
	r.findings, r.held, r.costs = append(kept.findings, r.findings...), append(kept.held, r.held...), append(kept.costs, r.costs...)
	slices.SortStableFunc(r.findings, compareFindings)
	slices.SortFunc(r.costs, compareCosts)
}

// without is the record but for what some constraints found.
func (r *record) without(some map[*constraint]bool) *record {
	out := *r
	drop := func(f finding) bool { return some[f.by] }
	out.findings, out.held = slices.DeleteFunc(slices.Clone(r.findings), drop), slices.DeleteFunc(slices.Clone(r.held), drop)
	out.costs = slices.DeleteFunc(slices.Clone(r.costs), func(c cost) bool { return some[c.by] })
	return &out
}

// clone is the key on its own: those of objects share memory with them.
func (k objectKey) clone() objectKey {
	return objectKey{namespace: strings.Clone(k.namespace), name: strings.Clone(k.name)}
}

// cut makes a message printable and shortens it to maxMessage bytes.
func cut(message string) string { return printable.TextMax(message, maxMessage) }
