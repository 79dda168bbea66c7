package exempt

import (
	"slices"
	"strconv"
	"strings"

	"github.com/fusegate/fusegate/pkg/policy"
)

// predicate is a statement about an admission request that CEL and Go judge
// alike. Its expression is never an error, whatever the request leaves out: a
// field that is absent is in no list and has no prefix, just as the empty
// string that Go sees in its place.
type predicate interface {
	cel() (expression string, binds precedence)
	holds(r *policy.Review) bool
}

// precedence says how tightly an expression's outermost operator binds, so
// that parentheses are written only where CEL needs them.
type precedence int

const (
	bindsOr precedence = iota
	bindsAnd
	bindsRelation
	bindsUnary
)

// operand writes p as an operand of an operator that binds as tightly as at.
func operand(p predicate, at precedence) string {
	expression, binds := p.cel()
	if binds < at {
		return "(" + expression + ")"
	}
	return expression
}

// field is a string of an admission request.
type field struct {
	path string
	// optional fields are left out of the request when they are empty, and
	// reading one that is left out is an error in CEL.
	optional bool
	get      func(*policy.Review) string
}

// The fields that rules speak of. The API server's request type calls name
// required, but its JSON leaves it out when it is empty, as for a CREATE with
// generateName (k8s.io/apiserver pkg/admission/plugin/cel/compile.go and
// k8s.io/api admission/v1 AdmissionRequest).
var (
	username    = field{"request.userInfo.username", true, func(r *policy.Review) string { return r.UserInfo.Username }}
	namespace   = field{"request.namespace", true, func(r *policy.Review) string { return r.Namespace }}
	name        = field{"request.name", true, func(r *policy.Review) string { return r.Name }}
	subResource = field{"request.subResource", true, func(r *policy.Review) string { return r.SubResource }}
	operation   = field{"request.operation", false, func(r *policy.Review) string { return string(r.Operation) }}
	group       = field{"request.resource.group", false, func(r *policy.Review) string { return r.Resource.Group }}
	resource    = field{"request.resource.resource", false, func(r *policy.Review) string { return r.Resource.Resource }}
)

func (f field) guarded(expression string) (string, precedence) {
	if !f.optional {
		return expression, bindsRelation
	}
	return "has(" + f.path + ") && " + expression, bindsAnd
}

// oneOf holds when the field has one of the values. An optional field's
// values must not include the empty string.
type oneOf struct {
	field  field
	values []string
}

func (p oneOf) cel() (string, precedence) {
	if len(p.values) == 1 {
		return p.field.guarded(p.field.path + " == " + quote(p.values[0]))
	}
	return p.field.guarded(p.field.path + " in " + list(p.values))
}

func (p oneOf) holds(r *policy.Review) bool {
	return slices.Contains(p.values, p.field.get(r))
}

// affix holds when the field starts with prefix and ends with suffix, at
// least one of which is set.
type affix struct {
	field          field
	prefix, suffix string
}

func (p affix) cel() (string, precedence) {
	var calls []string
	if p.prefix != "" {
		calls = append(calls, p.field.path+".startsWith("+quote(p.prefix)+")")
	}
	if p.suffix != "" {
		calls = append(calls, p.field.path+".endsWith("+quote(p.suffix)+")")
	}
	expression, _ := p.field.guarded(strings.Join(calls, " && "))
	return expression, bindsAnd
}

func (p affix) holds(r *policy.Review) bool {
	v := p.field.get(r)
	return strings.HasPrefix(v, p.prefix) && strings.HasSuffix(v, p.suffix)
}

// present holds when an optional field is set.
type present struct{ field field }

func (p present) cel() (string, precedence)   { return "has(" + p.field.path + ")", bindsUnary }
func (p present) holds(r *policy.Review) bool { return p.field.get(r) != "" }

// maxGroups bounds what member looks through. Nobody is in more groups than
// this in earnest; without the bound a user who asserts enough of them would
// exhaust the cost budget of matchConditions, and under failurePolicy Ignore
// the API server then skips the webhook. Beyond the bound the user is judged.
const maxGroups = 4096

// member holds when the user is in one of the groups.
type member struct{ groups []string }

const groupsPath = "request.userInfo.groups"

func (p member) cel() (string, precedence) {
	in := quote(p.groups[0]) + " in " + groupsPath
	if len(p.groups) > 1 {
		in = list(p.groups) + ".exists(g, g in " + groupsPath + ")"
	}
	return "has(" + groupsPath + ") && size(" + groupsPath + ") <= " + strconv.Itoa(maxGroups) + " && " + in, bindsAnd
}

func (p member) holds(r *policy.Review) bool {
	return len(r.UserInfo.Groups) <= maxGroups && slices.ContainsFunc(p.groups, func(g string) bool {
		return slices.Contains(r.UserInfo.Groups, g)
	})
}

// all holds when each of its predicates does.
type all []predicate

func (p all) cel() (string, precedence) {
	if len(p) == 1 {
		return p[0].cel()
	}
	return join(p, " && ", bindsAnd), bindsAnd
}

func (p all) holds(r *policy.Review) bool {
	return !slices.ContainsFunc(p, func(q predicate) bool { return !q.holds(r) })
}

// some holds when one of its predicates does; an empty one never holds.
type some []predicate

func (p some) cel() (string, precedence) {
	switch len(p) {
	case 0:
		return "false", bindsUnary
	case 1:
		return p[0].cel()
	}
	// && needs no parentheses inside ||, but its readers do.
	return join(p, " || ", bindsRelation), bindsOr
}

func (p some) holds(r *policy.Review) bool {
	return slices.ContainsFunc(p, func(q predicate) bool { return q.holds(r) })
}

func join(ps []predicate, operator string, at precedence) string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = operand(p, at)
	}
	return strings.Join(out, operator)
}

type negation struct{ of predicate }

// not negates p; a negation of a negation is what was negated.
func not(p predicate) predicate {
	if n, ok := p.(negation); ok {
		return n.of
	}
	return negation{p}
}

func (p negation) cel() (string, precedence)   { return "!" + operand(p.of, bindsUnary), bindsUnary }
func (p negation) holds(r *policy.Review) bool { return !p.of.holds(r) }

func list(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote writes s as a string literal: Go's escapes of valid UTF-8 are CEL's.
func quote(s string) string { return strconv.Quote(s) }
