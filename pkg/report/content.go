package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/printable"
)

const (
	// source is who says so, in every report.
	source = "fusegate"
	// prefix and the object's UID are a report's name.
	prefix = "fusegate-"
	// managedBy is the label by which Fusegate's reports are found.
	managedBy = "app.kubernetes.io/managed-by"
	// omittedAnnotation says how many results a report leaves out.
	omittedAnnotation = "fusegate.dev/omitted-results"
	// maxResults bounds the results of one report: with messages as short as
	// those of a status it stays far below what etcd takes.
	maxResults = 500
)

// api is how a format is spelt.
type api struct {
	group, version string
	// kinds and resources are of what reports on namespaced objects, and on
	// others.
	kind, resource               string
	clusterKind, clusterResource string
	// bySource tells whether a report names its source as a whole.
	bySource bool
}

var apis = map[Format]api{
	OpenReports: {
		group: "openreports.io", version: "v1alpha1", bySource: true,
		kind: "Report", resource: "reports", clusterKind: "ClusterReport", clusterResource: "clusterreports",
	},
	PolicyReport: {
		group: "wgpolicyk8s.io", version: "v1alpha2",
		kind: "PolicyReport", resource: "policyreports", clusterKind: "ClusterPolicyReport", clusterResource: "clusterpolicyreports",
	},
}

// nameFor is the name of the report on the object with this UID.
func nameFor(uid types.UID) string {
	name := prefix + strings.ToLower(string(uid))
	if len(validation.IsDNS1123Subdomain(name)) == 0 {
		return name
	}
	// A UID is an UUID, but an API server of somebody else's may not know.
	sum := sha256.Sum256([]byte(uid))
	return prefix + hex.EncodeToString(sum[:16])
}

// resultOf is one result, without its time.
func resultOf(f audit.Finding, d Description) map[string]any {
	out := map[string]any{
		"source": source, "policy": f.Constraint.String(), "rule": f.Constraint.Kind,
		"result": "fail", "scored": true, "message": f.Message,
		"properties": map[string]any{"enforcementAction": f.Constraint.ActionNames()},
	}
	if f.Fault {
		out["result"], out["scored"] = "error", false
	}
	if d.Category != "" {
		out["category"] = d.Category
	}
	if severities[d.Severity] {
		out["severity"] = d.Severity
	}
	return out
}

// severities are those that the APIs know.
var severities = map[string]bool{"critical": true, "high": true, "medium": true, "low": true, "info": true}

// build makes the report on an object. The results have no times.
func (a api) build(o *audit.Object, results []map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetAPIVersion(a.group + "/" + a.version)
	u.SetKind(a.kind)
	if o.Namespace == "" {
		u.SetKind(a.clusterKind)
	}
	u.SetName(nameFor(o.UID))
	u.SetNamespace(o.Namespace)
	u.SetLabels(map[string]string{managedBy: source})
	apiVersion := o.Kind.GroupVersion().String()
	if printable.Line(o.Name) == o.Name {
		u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: apiVersion, Kind: o.Kind.Kind, Name: o.Name, UID: o.UID}})
	} // else the owner would be another name, which is not there: the report is deleted when audit sees the object gone
	scope := map[string]any{"apiVersion": apiVersion, "kind": o.Kind.Kind, "name": o.Name, "uid": string(o.UID)}
	if o.Namespace != "" {
		scope["namespace"] = o.Namespace
	}
	u.Object["scope"] = scope
	if a.bySource {
		u.Object["source"] = source
	}
	u.Object["summary"] = summaryOf(results)
	if more := len(results) - maxResults; more > 0 {
		u.SetAnnotations(map[string]string{omittedAnnotation: strconv.Itoa(more)})
		results = results[:maxResults]
	}
	list := make([]any, len(results))
	for i, result := range results {
		list[i] = result
	}
	u.Object["results"] = list
	u.Object = printable.Fields(u.Object) // it is applied, which is read as YAML without control characters
	return u
}

func summaryOf(results []map[string]any) map[string]any {
	out := map[string]any{"pass": int64(0), "fail": int64(0), "warn": int64(0), "error": int64(0), "skip": int64(0)}
	for _, r := range results {
		kind, _ := r["result"].(string)
		n, _ := out[kind].(int64)
		out[kind] = n + 1
	}
	return out
}

// stamp gives every result the time that the same one has in the report as it
// was, if there was one, and else this time.
func stamp(u, was *unstructured.Unstructured, now time.Time) {
	times := map[string]any{}
	if was != nil {
		for _, r := range resultsIn(was) {
			times[identity(r)] = r["timestamp"]
		}
	}
	for _, r := range resultsIn(u) {
		t, ok := times[identity(r)].(map[string]any)
		if !ok {
			t = map[string]any{"seconds": now.Unix(), "nanos": int64(0)}
		}
		r["timestamp"] = t
	}
}

func resultsIn(u *unstructured.Unstructured) []map[string]any {
	list, _ := u.Object["results"].([]any)
	out := make([]map[string]any, 0, len(list))
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// identity tells results apart by what they say, whatever the action.
func identity(result map[string]any) string {
	text, err := json.Marshal([]any{result["policy"], result["result"], result["message"]})
	if err != nil {
		return ""
	}
	return string(text)
}

// digest stands for all that Fusegate says in a report, but for the times.
func digest(u *unstructured.Unstructured) uint64 {
	results := resultsIn(u)
	plain := make([]map[string]any, len(results))
	for i, r := range results {
		plain[i] = make(map[string]any, len(r))
		for k, v := range r {
			if k != "timestamp" {
				plain[i][k] = v
			}
		}
	}
	owners := u.GetOwnerReferences()
	slices.SortFunc(owners, func(a, b metav1.OwnerReference) int { return strings.Compare(string(a.UID), string(b.UID)) })
	h := fnv.New64a()
	err := json.NewEncoder(h).Encode([]any{
		u.GetLabels()[managedBy], u.GetAnnotations()[omittedAnnotation], owners, u.Object["source"], u.Object["scope"], u.Object["summary"], plain,
	})
	if err != nil {
		return 0 // what cannot be encoded did not come from JSON
	}
	return h.Sum64()
}
