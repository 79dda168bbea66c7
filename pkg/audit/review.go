package audit

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode/utf8"
	"unique"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/policy"
)

// maxMessage is how long a message in a status may be, in bytes
// (Gatekeeper's pkg/audit, msgSize).
const maxMessage = 256

// review judges an object and puts what comes of it into the tally. It is
// judged again if meanwhile constraints or its namespace have changed. r is the
// reading that the object was listed by, nil if it is of an event.
func (k *kind) review(ctx context.Context, u *unstructured.Unstructured, r *reading) {
	select {
	case <-ctx.Done():
		return
	case k.a.workers <- struct{}{}:
	}
	defer func() { <-k.a.workers }()
	key := keyOf(u)
	for !k.outdated(r, key) {
		sequence := k.a.sequenceNow()
		namespace := k.a.namespaces.get(key.namespace)
		result := k.judge(ctx, u, namespace)
		if ctx.Err() != nil || k.record(r, u, sequence, namespace, result) {
			return
		}
	}
}

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
func (k *kind) judge(ctx context.Context, u *unstructured.Unstructured, namespace *knownNamespace) policy.Result {
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
	return k.a.o.Reviewer.Review(ctx, review)
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
	if k.a.o.Objects != nil {
		now.uid = u.GetUID()
	}
	if r != nil {
		now.reading = r.id
		if !now.same(k.records[key]) {
			r.drift++
		}
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
		if c := k.a.known[name{f.Constraint.Kind, f.Constraint.Name}]; c != nil && k.constraints[c] {
			out = append(out, finding{by: c, message: unique.Make(cut(string(f.Cause) + ": " + f.Summary())), fault: true})
		}
	}
	slices.SortStableFunc(out, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.by.name.kind, b.by.name.kind), cmp.Compare(a.by.name.name, b.by.name.name),
			cmp.Compare(a.message.Value(), b.message.Value()))
	})
	return slices.Clip(out)
}

// cut shortens a message to maxMessage bytes of valid UTF-8.
func cut(message string) string {
	const mark = "..."
	message = strings.ToValidUTF8(message, "\uFFFD")
	if len(message) <= maxMessage {
		return strings.Clone(message)
	}
	end := maxMessage - len(mark)
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + mark
}
