package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/pkg/report"
)

// matching selects what the tests make in a namespace.
func matching(namespace string) string {
	return `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], labelSelector: {matchLabels: {tested: x}}, namespaces: [` + namespace + `]}`
}

// TestLife follows reports, in both formats and under the CRDs as OpenReports
// ships them, through the life of their objects.
func TestLife(t *testing.T) {
	w := newWorld(t)
	w.theirs()
	w.ours("wgpolicyk8s.io_policyreports.yaml", "wgpolicyk8s.io_clusterpolicyreports.yaml")
	// One that runs already looks for new kinds twice a minute.
	if err := shared.Get(t).Restart(t.Context(), "kube-controller-manager"); err != nil {
		t.Fatal(err)
	}
	both := report.Options{
		Formats:  []report.Format{report.OpenReports, report.PolicyReport},
		Describe: described(report.Description{Category: "Labels", Severity: "high"}),
	}
	w.namespace("life")
	w.configMap("life", "bare")
	w.configMap("life", "bare-too")
	w.configMap("life", "owned", "owner: me")
	w.configMap("life", "broken", "broken: x")
	w.configMap("kube-public", "exempt")
	w.apply(clusterRoles, parse(t, "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: bare-role, labels: {tested: x}}}"))
	w.constraint("owners", "deny", "owner", matching("life, kube-public"))
	w.constraint("roles", "warn", "owner", `{kinds: [{apiGroups: ["*"], kinds: [ClusterRole]}], labelSelector: {matchLabels: {tested: x}}}`)
	// Reports are no objects to report on: there would be no end to it.
	w.constraint("reports", "deny", "owner", `{namespaces: [life], labelSelector: {matchLabels: {app.kubernetes.io/managed-by: fusegate}}}`)
	r := w.start(both)

	const fail = "fail Wants/owners: lacks owner (deny)"
	all := map[string]string{"bare": fail, "bare-too": fail}
	w.awaitLines("OpenReports", openReports, "life", all)
	w.awaitLines("PolicyReports", policyReports, "life", all)
	w.awaitLines("a ClusterReport", clusterReports, "", map[string]string{"bare-role": "fail Wants/roles: lacks owner (warn)"})
	r.awaitCondition("Written", "openreports, policyreport")
	t.Run("as their types say", w.checkContent)
	first := w.reports(openReports, "life")["bare"]

	w.constraint("owners", "dryrun", "owner", matching("life"))
	const dry = "fail Wants/owners: lacks owner (dryrun)"
	w.awaitLines("another action", openReports, "life", map[string]string{"bare": dry, "bare-too": dry})
	if diff := cmp.Diff(timesOf(t, first), timesOf(t, w.reports(openReports, "life")["bare"])); diff != "" {
		t.Errorf("the result is as old as it was (-want +got):\n%s", diff)
	}
	w.configMap("life", "bare-too", "owner: me")
	w.awaitLines("a fixed object", openReports, "life", map[string]string{"bare": dry})
	w.awaitLines("a fixed object", policyReports, "life", map[string]string{"bare": dry})
	w.configMap("life", "bare", "broken: x")
	await(t, "a fault", func() error {
		if got := w.reports(openReports, "life")["bare"]; fmt.Sprint(got.Object["summary"]) != "map[error:1 fail:0 pass:0 skip:0 warn:0]" {
			return fmt.Errorf("got %v", got.Object["summary"])
		}
		return nil
	})
	w.configMap("life", "bare")
	w.awaitLines("no fault", openReports, "life", map[string]string{"bare": dry})

	r.stop()
	w.configMap("life", "bare", "owner: me")
	w.configMap("life", "bare-too")
	if got := w.lines(openReports, "life"); len(got) != 1 {
		t.Errorf("with nobody there: got %q", got)
	}
	r = w.start(both)
	w.awaitLines("what happened meanwhile", openReports, "life", map[string]string{"bare-too": dry})
	w.awaitLines("what happened meanwhile", policyReports, "life", map[string]string{"bare-too": dry})
	r.stop()
	w.remove(configMaps, "life", "bare-too")
	w.awaitLines("garbage to be collected", openReports, "life", map[string]string{})
	w.awaitLines("garbage to be collected", policyReports, "life", map[string]string{})
	w.remove(clusterRoles, "", "bare-role")
	w.awaitLines("garbage of the cluster to be collected", clusterReports, "", map[string]string{})
}

// checkContent reads a report as a consumer does.
func (w *world) checkContent(t *testing.T) {
	object := w.get(configMaps, "life", "bare")
	u := w.reports(openReports, "life")["bare"]
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var got v1alpha1.Report
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.Report{
		TypeMeta: metav1.TypeMeta{APIVersion: "openreports.io/v1alpha1", Kind: "Report"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "fusegate-" + string(object.GetUID()), Namespace: "life", Labels: map[string]string{"app.kubernetes.io/managed-by": "fusegate"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "bare", UID: object.GetUID()}},
		},
		Source:  "fusegate",
		Scope:   &corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: "life", Name: "bare", UID: object.GetUID()},
		Summary: v1alpha1.ReportSummary{Fail: 1},
		Results: []v1alpha1.ReportResult{{
			Source: "fusegate", Policy: "Wants/owners", Rule: "Wants", Category: "Labels", Severity: "high", Result: "fail", Scored: true,
			Description: "lacks owner", Properties: map[string]string{"enforcementAction": "deny"},
		}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(metav1.ObjectMeta{}, "UID", "ResourceVersion", "Generation", "CreationTimestamp", "ManagedFields"),
		cmpopts.IgnoreFields(v1alpha1.ReportResult{}, "Timestamp")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if age := time.Since(time.Unix(got.Results[0].Timestamp.Seconds, 0)); age < 0 || age > 2*patience {
		t.Errorf("got a result %v old", age)
	}
}

// timesOf are the times of a report's results.
func timesOf(t *testing.T, u interface{ MarshalJSON() ([]byte, error) }) (out []metav1.Timestamp) {
	t.Helper()
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var r v1alpha1.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for _, result := range r.Results {
		out = append(out, result.Timestamp)
	}
	return out
}

// TestRestart writes more reports than are read at a time once, and not again by
// who comes after; then there may be fewer.
func TestRestart(t *testing.T) {
	const many = 501
	w := newWorld(t)
	w.theirs()
	w.namespace("restart")
	w.configMaps("restart", many)
	w.constraint("many", "deny", "owner", matching("restart"))
	one := report.Options{Formats: []report.Format{report.OpenReports}}
	versions := func() map[string]string {
		out := map[string]string{}
		for name, u := range w.reports(openReports, "restart") {
			out[name] = u.GetResourceVersion()
		}
		return out
	}
	began := time.Now()
	r := w.start(one)
	await(t, "all reports", func() error {
		if got := len(versions()); got != many {
			return fmt.Errorf("got %d", got)
		}
		return nil
	})
	r.awaitCondition("Written", "openreports")
	t.Logf("%d reports written after %v", many, time.Since(began).Round(time.Millisecond))
	r.stop()
	before := versions()

	registry := prometheus.NewRegistry()
	one.Metrics = registry
	r = w.start(one)
	w.configMap("restart", "last")
	await(t, "one more", func() error {
		if got := len(versions()); got != many+1 {
			return fmt.Errorf("got %d", got)
		}
		return nil
	})
	r.stop()
	after := versions()
	maps.DeleteFunc(after, func(name, _ string) bool { return name == "last" })
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("reports were written again (-before +after):\n%s", diff)
	}
	want := map[string]float64{"list": 3, "apply": 1}
	if diff := cmp.Diff(want, requests(t, registry)); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}

	t.Run("fewer", func(t *testing.T) {
		r = w.start(report.Options{Formats: []report.Format{report.OpenReports}, Limit: 10})
		w.configMap("restart", "more")
		r.awaitCondition("TooMany", "openreports: 1 objects in violation have no report, since there are 502, as many as reportLimit allows")
	})
}

// requests counts a reporter's by verb.
func requests(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "fusegate_report_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "verb" {
					out[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	return out
}
