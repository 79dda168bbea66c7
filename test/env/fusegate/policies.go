package fusegate

import (
	"fmt"
	"strings"
)

// LabelTemplate is a template whose constraints want the label named by a
// parameter; word is part of what it says.
func LabelTemplate(kind, word string) string {
	return fmt.Sprintf(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd:
    spec:
      names: {kind: %s}
      validation:
        openAPIV3Schema:
          type: object
          properties: {label: {type: string}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package labels
      violation[{"msg": msg}] {
        not input.review.object.metadata.labels[input.parameters.label]
        msg := sprintf("%s label %%v", [input.parameters.label])
      }
`, strings.ToLower(kind), kind, word)
}

// Constraint is one of a LabelTemplate; match is YAML in one line.
func Constraint(kind, name, action, label, match string) string {
	return fmt.Sprintf(`
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: %s
metadata: {name: %s}
spec:
  enforcementAction: %s
  match: %s
  parameters: {label: %s}
`, kind, name, action, match, label)
}

// ConfigMap is one with labels as in "owner: me".
func ConfigMap(namespace, name string, labels ...string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s, labels: {%s}}\n",
		name, namespace, strings.Join(labels, ", "))
}

// DenyAll denies every request of every operation on every kind.
const DenyAll = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: denyall}
spec:
  crd: {spec: {names: {kind: DenyAll}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    operations: ["*"]
    rego: |
      package denyall
      violation[{"msg": msg}] {
        msg := sprintf("no %v of %v", [input.review.operation, input.review.kind.kind])
      }
`

// DenyEverything is the constraint of DenyAll that matches all.
const DenyEverything = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: DenyAll
metadata: {name: everything}
`

// Object is one of any kind; rest is YAML, and so may be more of the metadata
// after the name.
func Object(apiVersion, kind, namespace, name, rest string) string {
	meta := "name: " + name
	if namespace != "" {
		meta += ", namespace: " + namespace
	}
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {%s}\n%s\n", apiVersion, kind, meta, rest)
}

// Pause is the spec of a Pod.
const Pause = "spec: {containers: [{name: c, image: registry.example.com/pause}]}"
