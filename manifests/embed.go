// Package manifests holds what Fusegate installs in a cluster, as YAML, except
// for the webhook configuration: that one is built in Go from the protected
// perimeter (pkg/install), so that no file can widen what it intercepts.
//
// The files are valid as they stand, for the namespace fusegate-system.
// pkg/install sets the namespace, the image and the replicas, and puts the
// labels that all objects share on them.
package manifests

import "embed"

// FS holds the files.
//
//go:embed *.yaml crds/*.yaml crds/reports/*.yaml
var FS embed.FS

// Order lists the files of FS in the order in which they are applied: what
// others depend on comes first. Those in crds/reports are not among them: they
// define kinds of other projects, and are applied only where they are asked for
// and nobody else has.
var Order = []string{
	"namespace.yaml",
	"crds/constrainttemplates.yaml",
	"crds/canaries.yaml",
	"crds/auditreports.yaml",
	"crds/syncsets.yaml",
	"crds/configs.yaml",
	"accounts.yaml",
	"webhook-role.yaml",
	"controller-role.yaml",
	"inventory-role.yaml",
	"bindings.yaml",
	"webhook.yaml",
	"controller.yaml",
}
