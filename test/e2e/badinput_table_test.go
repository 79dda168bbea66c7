package e2e_test

import (
	"fmt"
	"strings"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

// badTemplate is a ConstraintTemplate that is wrong in one respect.
type badTemplate struct {
	reason string
	// text makes the template of a kind; the kind of a case is its name.
	text func(kind string) string
	want fusegate.PodError // NAME stands for the template's name
	// recorded is the message in status where it is not that of want.
	recorded string
	// inPlace is the message in status where it takes the place of a good
	// template that has constraints, if it is another one then.
	inPlace string
	// alone is set for those that cannot take the place of another template.
	alone bool
}

// refused is what kubectl prints.
func (b badTemplate) refused(name string) string {
	text := b.want.Message
	if b.want.Code != "create_error" {
		text = strings.TrimPrefix(b.want.Location+": "+b.want.Code+": "+text, ": ")
	}
	return fmt.Sprintf("%sConstraintTemplate %q: %s", invalid, name, strings.ReplaceAll(text, "NAME", name))
}

// status is what the template's status says.
func (b badTemplate) status(name string) fusegate.PodError {
	e := b.want
	if b.recorded != "" {
		e = fusegate.PodError{Code: "create_error", Message: b.recorded}
	}
	e.Message = strings.ReplaceAll(e.Message, "NAME", name)
	return e
}

// invalid is how kubectl begins when Fusegate refuses a policy.
const invalid = `The request is invalid: error when creating "STDIN": admission webhook "policies.fusegate.dev" denied the request: `

// written is a template with this Rego and these libraries.
func written(rego string, libs ...string) func(kind string) string {
	indent := func(s string) string { return strings.ReplaceAll(s, "\n", "\n      ") }
	out := `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: NAME}
spec:
  crd: {spec: {names: {kind: KIND}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      ` + indent(rego) + "\n"
	for i, lib := range libs {
		if i == 0 {
			out += "    libs:\n"
		}
		out += "    - |\n      " + indent(lib) + "\n"
	}
	return func(kind string) string {
		return strings.NewReplacer("NAME", strings.ToLower(kind), "KIND", kind).Replace(out)
	}
}

// altered is a good template with something else in the place of old.
func altered(old, now string) func(kind string) string {
	return func(kind string) string { return strings.Replace(fusegate.LabelTemplate(kind, "missing"), old, now, 1) }
}

// longKind is as long as a kind can be, and its list's kind longer.
var longKind = "BadKind" + strings.Repeat("d", 56)

var badTemplates = map[string]badTemplate{
	"BadParse": {
		reason: "Rego that does not parse, with the line",
		text:   written("package p\n\nviolation[{\"msg\": msg}] {\n  msg := \"x\"\n  1 +\n}\n"),
		want:   fusegate.PodError{Code: "rego_parse_error", Message: "unexpected } token", Location: "rego:6:1"},
	},
	"BadCompile": {
		reason: "Rego that does not compile, with the line",
		text:   written("package p\nviolation[{\"msg\": msg}] {\n  msg := other\n}\n"),
		want:   fusegate.PodError{Code: "rego_unsafe_var_error", Message: "var other is unsafe", Location: "rego:3:3"},
	},
	"BadCall": {
		reason: "a builtin with too many arguments",
		text:   written("package p\nviolation[{\"msg\": msg}] {\n  msg := upper(\"a\", \"b\", \"c\")\n}\n"),
		want:   fusegate.PodError{Code: "rego_type_error", Message: "upper: arity mismatch", Location: "rego:3:10"},
	},
	"BadImport": {
		reason: "an import from outside the template",
		text:   written("package p\nimport data.kubernetes.pods\nviolation[{\"msg\": \"x\"}] { pods[_] }\n"),
		want: fusegate.PodError{
			Code: "rego_import_error", Location: "rego:2:1",
			Message: "bad import data.kubernetes.pods: templates may import data.lib.* and future.keywords only",
		},
	},
	"BadRef": {
		reason: "a reference to outside the template",
		text:   written("package p\nviolation[{\"msg\": \"x\"}] {\n  data.kubernetes.pods[_]\n}\n"),
		want: fusegate.PodError{
			Code: "rego_reference_error", Location: "rego:3:3",
			Message: "disallowed ref data.kubernetes.pods[_]: templates may read data.lib.* and data.inventory only",
		},
	},
	"BadSend": {
		reason: "http.send is off",
		text:   written("package p\nviolation[{\"msg\": \"x\"}] {\n  http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"})\n}\n"),
		want:   fusegate.PodError{Code: "rego_type_error", Message: "undefined function http.send", Location: "rego:3:3"},
	},
	"BadRuntime": {
		reason: "and so is what reads the environment",
		text:   written("package p\nviolation[{\"msg\": \"x\"}] { opa.runtime().env }\n"),
		want:   fusegate.PodError{Code: "rego_type_error", Message: "undefined function opa.runtime", Location: "rego:2:27"},
	},
	"BadLibrary": {
		reason: "a library is no way around it; which one is said",
		text:   written("package p\nimport data.lib.a\nviolation[{\"msg\": \"x\"}] { a.b }\n", "package lib.z\n\nc = 1\n", "package lib.a\n\nb { http.send({}) }\n"),
		want:   fusegate.PodError{Code: "rego_type_error", Message: "undefined function http.send", Location: "libs[1]:3:5"},
	},
	"BadEntry": {
		reason: "a rule that nobody asks, so that nothing would ever be found",
		text:   written("package p\ndeny[{\"msg\": \"x\"}] { true }\n"),
		want: fusegate.PodError{
			Code: "rego_entry_error", Location: "rego:1:1",
			Message: `no rule named violation: a template's Rego reports through rules violation[{"msg": msg}]`,
		},
	},
	"BadName": {
		reason: "a template's name is its kind in lower case",
		text:   altered("names: {kind: ", "names: {kind: Other"),
		want: fusegate.PodError{
			Code:    "create_error",
			Message: `metadata.name: "NAME" is not the lowercase of spec.crd.spec.names.kind: use "otherNAME"`,
		},
	},
	longKind: {
		reason: "a kind whose list's kind would be over 63 characters",
		text:   written("package p\nviolation[{\"msg\": \"x\"}] { true }\n"), alone: true,
		want: fusegate.PodError{Code: "create_error", Message: "spec.crd.spec.names.kind: 63 characters long, at most 59 are allowed"},
	},
	"BadSchema": {
		reason: "a schema of the parameters that is none",
		text:   altered("type: string", "type: strnig"),
		want: fusegate.PodError{
			Code: "create_error",
			Message: `invalid ConstraintTemplate: spec.crd.spec.validation.openAPIV3Schema.properties[label].type: Unsupported value: "strnig": ` +
				`supported values: "array", "boolean", "integer", "number", "object", "string"`,
		},
	},
	"BadTarget": {
		reason: "a target that nobody handles",
		text:   altered("target: admission.k8s.gatekeeper.sh", "target: admission.example.com"),
		want: fusegate.PodError{
			Code:    "create_error",
			Message: `invalid ConstraintTemplate: target "admission.example.com" not recognized, known targets [admission.k8s.gatekeeper.sh]`,
		},
		inPlace: "ConstraintTemplates with Constraints may not change targets: old targets [admission.k8s.gatekeeper.sh], new targets [admission.example.com]",
	},
	"BadEngine": {
		reason: "no Rego, but CEL",
		text: func(kind string) string {
			text, _, _ := strings.Cut(written("")(kind), "    rego: |")
			return text + "    code: [{engine: K8sNativeValidation, source: {validations: [{expression: 'true'}]}}]\n"
		},
		want: fusegate.PodError{
			Code:    "rego_source_error",
			Message: "spec.targets[0] has no Rego: set its field rego, or add an entry with engine Rego to its field code",
		},
		recorded: `ConstraintTemplate "NAME" has no code for an engine that Fusegate has: add Rego to spec.targets[0] (its engines: K8sNativeValidation)`,
	},
}

// badConstraint is a constraint that is wrong in one respect.
type badConstraint struct {
	reason     string
	name       string // of the constraint; empty means that of the case
	annotation string
	spec       string
	// want is what Fusegate says, in the status too; empty if the API server
	// never stores it.
	want string
	// before is what kubectl prints where the API server refuses it before
	// Fusegate is asked, by the schema of the constraint's CRD.
	before string
	// code is that answer's; zero means 422.
	code int32
}

func (b badConstraint) text(name string) string {
	return fmt.Sprintf("apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: BadLabels\nmetadata:\n  name: %s\n  annotations: {%s}\nspec:\n  %s\n",
		name, b.annotation, b.spec)
}

// refused is what kubectl prints.
func (b badConstraint) refused(name string) string {
	if b.before != "" {
		return b.before
	}
	return fmt.Sprintf("%sBadLabels %q: %s", invalid, name, b.want)
}

const (
	innerStar = `"a*b": "*" may stand only at the start, at the end, or both; list the names one by one instead`
	labelRule = `must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`
)

var longName = strings.Repeat("n", 64)

var badConstraints = map[string]badConstraint{
	"parameters": {
		reason: "a schema violation in parameters",
		spec:   "parameters: {label: 5}",
		before: `The BadLabels "parameters" is invalid: spec.parameters.label: Invalid value: "integer": spec.parameters.label in body must be of type string: "integer"`,
		want:   `schema validation failed: spec.parameters.label: Invalid value: "number": spec.parameters.label in body must be of type string: "number"`,
	},
	"unknown": {
		reason: "a parameter that the template does not know; the API server drops it wherever it does not refuse it",
		spec:   "parameters: {lable: x}",
		before: `Error from server (BadRequest): error when creating "STDIN": BadLabels in version "v1beta1" cannot be handled as a BadLabels: strict decoding error: unknown field "spec.parameters.lable"`,
		code:   400,
	},
	"name": {
		reason: "a name over 63 characters",
		name:   longName, spec: "enforcementAction: warn",
		before: `The BadLabels "` + longName + `" is invalid: metadata.name: Too long: may not be more than 63 bytes`,
		want:   "schema validation failed: metadata.name: Too long: may not be more than 63 bytes",
	},
	"action": {
		reason: "an unknown enforcementAction",
		spec:   "enforcementAction: dney",
		want:   `invalid Constraint: spec.enforcementAction: "dney" is not supported: use one of deny, warn, dryrun, scoped`,
	},
	"scoped": {
		reason: "an unknown action at a point",
		spec:   "enforcementAction: scoped\n  scopedEnforcementActions: [{action: dney, enforcementPoints: [{name: '*'}]}]",
		want:   `invalid Constraint: spec.scopedEnforcementActions: action "dney" is not supported: use one of deny, warn, dryrun`,
	},
	"operator": {
		reason: "a selector with an unknown operator",
		spec:   "match: {labelSelector: {matchExpressions: [{key: a, operator: Near, values: [b]}]}}",
		before: `The BadLabels "operator" is invalid: spec.match.labelSelector.matchExpressions[0].operator: Unsupported value: "Near": supported values: "In", "NotIn", "Exists", "DoesNotExist"`,
		want:   `invalid Constraint: spec.match.labelSelector.matchExpressions[0].operator: "Near" is not an operator, use In, NotIn, Exists or DoesNotExist`,
	},
	"values": {
		reason: "a selector that nothing can satisfy",
		spec:   "match: {labelSelector: {matchExpressions: [{key: a, operator: In}]}}",
		want:   "invalid Constraint: spec.match.labelSelector.matchExpressions[0].values: must hold at least one value for the operator In",
	},
	"label-value": {
		reason: "a selector for what no label can be",
		spec:   "match: {labelSelector: {matchLabels: {a: b c}}}",
		want: `invalid Constraint: spec.match.labelSelector.matchLabels[a]: "b c" is not a label value: a valid label must be an empty string or ` +
			strings.TrimPrefix(labelRule, "must ") + ` (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
	},
	"label-key": {
		reason: "a selector of namespaces for what no label's key can be",
		spec:   "match: {namespaceSelector: {matchLabels: {-a: b}}}",
		want: `invalid Constraint: spec.match.namespaceSelector.matchLabels[-a]: "-a" is not a label key: name part ` +
			labelRule + ` (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
	},
	"namespace-glob": {
		reason: "a glob with an inner star",
		spec:   "match: {namespaces: [a*b]}",
		before: `The BadLabels "namespace-glob" is invalid: spec.match.namespaces[0]: Invalid value: "a*b": spec.match.namespaces[0] in body should match '^[*]?[a-z0-9:-]*[*]?$'`,
		want:   "invalid Constraint: spec.match.namespaces[0]: " + innerStar,
	},
	"excluded-glob": {
		reason: "a glob with an inner star among good ones",
		spec:   "match: {excludedNamespaces: [ok, a*b]}",
		before: `The BadLabels "excluded-glob" is invalid: spec.match.excludedNamespaces[1]: Invalid value: "a*b": spec.match.excludedNamespaces[1] in body should match '^[*]?[a-z0-9:-]*[*]?$'`,
		want:   "invalid Constraint: spec.match.excludedNamespaces[1]: " + innerStar,
	},
	"name-glob": {
		reason: "a glob of names with an inner star",
		spec:   "match: {name: a*b}",
		before: `The BadLabels "name-glob" is invalid: spec.match.name: Invalid value: "a*b": spec.match.name in body should match '^[*]?[^*]*[*]?$'`,
		want:   "invalid Constraint: spec.match.name: " + innerStar,
	},
	"source": {
		reason: "an unknown source",
		spec:   "match: {source: Both}",
		before: `The BadLabels "source" is invalid: spec.match.source: Unsupported value: "Both": supported values: "All", "Generated", "Original"`,
		want:   `invalid Constraint: spec.match.source: "Both" is not a source, use All, Original or Generated`,
	},
	"kinds": {
		reason: "kinds that are no list",
		spec:   "match: {kinds: [{apiGroups: '', kinds: [Pod]}]}",
		before: `The BadLabels "kinds" is invalid: spec.match.kinds[0].apiGroups: Invalid value: "string": spec.match.kinds[0].apiGroups in body must be of type array: "string"`,
		want:   "invalid Constraint: spec.match.kinds[0].apiGroups: must be a list, is a string",
	},
	"on-fault": {
		reason:     "an unknown word in Fusegate's annotation",
		annotation: "fusegate.dev/on-fault: maybe", spec: "enforcementAction: deny",
		want: `invalid Constraint: metadata.annotations[fusegate.dev/on-fault]: "maybe" is not supported: use deny or allow`,
	},
}
