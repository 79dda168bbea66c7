// Package policy holds the values that flow through Fusegate's pipeline: the
// Review that every door builds, the Violations and Faults that the engine
// finds, and the Decision that a door acts on. It does no I/O and imports of
// Fusegate only what makes text printable, so that admission, audit and the
// command line cannot disagree about what these words mean.
package policy

import (
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Operation is what a request does to an object, spelled as the API server
// spells it in an AdmissionRequest. A review that stems from no request, such
// as one made by audit, has none.
type Operation string

// The operations that an admission webhook can be called for.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// EnforcementPoint names the door through which a review came. The names are
// Gatekeeper's, since constraints with scoped actions refer to them.
type EnforcementPoint string

// The enforcement points that a constraint's scopedEnforcementActions may name.
const (
	PointWebhook EnforcementPoint = "validation.gatekeeper.sh"
	PointAudit   EnforcementPoint = "audit.gatekeeper.sh"
	PointCLI     EnforcementPoint = "gator.gatekeeper.sh"
)

// EnforcementPoints lists every enforcement point that Fusegate serves.
func EnforcementPoints() []string {
	return []string{string(PointWebhook), string(PointAudit), string(PointCLI)}
}

// Source says whether an object was written by a user or generated from
// another object.
type Source string

// The values of Source.
const (
	SourceOriginal  Source = "Original"
	SourceGenerated Source = "Generated"
)

// Namespace is the Namespace object that a reviewed object lives in, as far
// as policies read it. Known is false when the namespace could not be found;
// a matcher that needs its labels then returns an error instead of guessing.
type Namespace struct {
	Known  bool
	Object map[string]any
}

// Review is one object put before the policies. All maps are decoded JSON
// (map[string]any, []any, string, bool, nil, int64 and float64), shared by
// every constraint and never modified once the review is built.
type Review struct {
	// UID identifies the request; empty outside admission.
	UID string
	// Kind is the kind of Object in the version that was sent.
	Kind schema.GroupVersionKind
	// Resource is the resource that the request addresses.
	Resource schema.GroupVersionResource
	// SubResource is the part of the resource that is addressed, "" for all.
	SubResource string
	// Name may be empty for a CREATE that relies on generateName.
	Name string
	// Namespace is empty for cluster-scoped objects.
	Namespace string
	Operation Operation
	UserInfo  authenticationv1.UserInfo
	// Object is the new object, or the deleted one for DELETE; nil when the
	// request carries none.
	Object map[string]any
	// OldObject is the object as stored, nil unless UPDATE or DELETE.
	OldObject map[string]any
	Source    Source
	// NamespaceObject is the namespace that the object lives in. It is
	// ignored for cluster-scoped objects.
	NamespaceObject Namespace
	// Request is what Rego reads as input.review: the AdmissionRequest as
	// decoded, or nil, in which case Input builds it from the other fields.
	Request map[string]any
	Point   EnforcementPoint
	// Bounded asks for no more violations than are shown of each constraint, with
	// the others counted, so that what an object has a policy say takes little
	// time and memory. Else all are kept.
	Bounded bool
	// AnswerBy is when the review of a request ends that is known to be denied by
	// then; zero for when all constraints are judged. A violation that a deny
	// constraint has found counts while its evaluation goes on.
	AnswerBy time.Time
}

// IsNamespace tells whether the object under review is itself a Namespace,
// which matchers treat by rules of its own.
func (r *Review) IsNamespace() bool {
	return r.Kind.Group == "" && r.Kind.Kind == "Namespace"
}

// Input returns the document that Rego reads as input.review: the fields of
// an AdmissionRequest and namespaceObject. The top-level map is the caller's;
// what it holds is shared with r.
func (r *Review) Input() map[string]any {
	in := make(map[string]any, len(r.Request)+1)
	if r.Request == nil {
		r.describe(in)
	}
	for k, v := range r.Request {
		in[k] = v
	}
	in["object"] = orNil(r.Object)
	in["oldObject"] = orNil(r.OldObject)
	in["namespaceObject"] = orNil(r.NamespaceObject.Object)
	return in
}

func (r *Review) describe(in map[string]any) {
	in["uid"] = r.UID
	in["kind"] = map[string]any{"group": r.Kind.Group, "version": r.Kind.Version, "kind": r.Kind.Kind}
	in["resource"] = map[string]any{
		"group": r.Resource.Group, "version": r.Resource.Version, "resource": r.Resource.Resource,
	}
	in["operation"] = string(r.Operation)
	in["userInfo"] = userInfo(r.UserInfo)
	in["options"] = nil
	setIf(in, "subResource", r.SubResource)
	setIf(in, "name", r.Name)
	setIf(in, "namespace", r.Namespace)
}

func userInfo(u authenticationv1.UserInfo) map[string]any {
	out := map[string]any{}
	setIf(out, "username", u.Username)
	setIf(out, "uid", u.UID)
	if len(u.Groups) > 0 {
		out["groups"] = anySlice(u.Groups)
	}
	if len(u.Extra) > 0 {
		extra := make(map[string]any, len(u.Extra))
		for k, v := range u.Extra {
			extra[k] = anySlice(v)
		}
		out["extra"] = extra
	}
	return out
}

func anySlice[S ~[]string](in S) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = s
	}
	return out
}

func setIf(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	}
}

// orNil turns a nil map into an untyped nil, which JSON and Rego call null.
func orNil(m map[string]any) any {
	if m == nil {
		return nil
	}
	return m
}
