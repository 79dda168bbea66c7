package install

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/config"
)

// reportFormat is what a format of reports needs in the cluster.
type reportFormat struct {
	group     string
	resources []string
	// files hold the definitions of its kinds.
	files []string
}

// reportFormats are those that pkg/report writes, by name.
var reportFormats = map[string]reportFormat{
	config.OpenReports: {
		group: "openreports.io", resources: []string{"reports", "clusterreports"},
		files: []string{"crds/reports/openreports.io_reports.yaml", "crds/reports/openreports.io_clusterreports.yaml"},
	},
	config.PolicyReport: {
		group: "wgpolicyk8s.io", resources: []string{"policyreports", "clusterpolicyreports"},
		files: []string{"crds/reports/wgpolicyk8s.io_policyreports.yaml", "crds/reports/wgpolicyk8s.io_clusterpolicyreports.yaml"},
	},
}

// formats are those that are asked for, sorted.
func (c renderer) formats() []reportFormat {
	var out []reportFormat
	for _, name := range slices.Compact(slices.Sorted(slices.Values(c.Reports))) {
		out = append(out, reportFormats[name])
	}
	return out
}

// definitions are the CRDs of the reports that are asked for. They belong to
// other projects, so that Apply leaves alone those that somebody else installed.
func (c renderer) definitions() ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, f := range c.formats() {
		for _, name := range f.files {
			objects, err := parse(name)
			if err != nil {
				return nil, fmt.Errorf("reading manifests/%s: %w", name, err)
			}
			for _, u := range objects {
				label(u)
			}
			out = append(out, objects...)
		}
	}
	return out, nil
}

// fitRole adds the rights to write the reports that are asked for, and no
// others, to those of the controller.
func (c renderer) fitRole(u *unstructured.Unstructured) error {
	if u.GetName() != "fusegate-controller" || len(c.Reports) == 0 {
		return nil
	}
	rules, _, err := unstructured.NestedSlice(u.Object, "rules")
	if err != nil {
		return fmt.Errorf("%s: %w", refOf(u), err)
	}
	for _, f := range c.formats() {
		rules = append(rules, map[string]any{
			"apiGroups": []any{f.group}, "resources": anySlice(f.resources), "verbs": []any{"get", "list", "create", "patch", "delete"},
		})
	}
	return unstructured.SetNestedSlice(u.Object, rules, "rules")
}

func anySlice(in []string) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = s
	}
	return out
}

// define applies the definition of somebody else's kind, unless somebody else
// has: then it is kept as it is.
func (a *applier) define(ctx context.Context, want *unstructured.Unstructured) error {
	ref := refOf(want)
	live, err := get(ctx, a.client, ref)
	if err != nil {
		return err
	}
	if live != nil && !(ours(live) && slices.Equal(specManagers(live), []string{a.options.FieldManager})) {
		a.record(Change{Object: ref, Action: Kept})
		return nil
	}
	return a.apply(ctx, want)
}
