package report_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/pkg/report"
)

// TestUnprintable reports on an object whose name, as that of RBAC objects may, holds
// control characters, and a message that does. The API server reads what is applied as
// YAML, which has none. The report has no owner: by the name that is shown there is no
// object, and the cluster would collect the report as garbage.
func TestUnprintable(t *testing.T) {
	w := newWorld(t)
	w.theirs()
	const name = "evil\u009b31m\u202e\x7f"
	role := parse(t, "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {labels: {tested: unprintable}}}")
	role.SetName(name)
	if _, err := w.client.Resource(clusterRoles).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.constraint("roles", "warn", `"x\u009b31m\u202e"`, `{kinds: [{apiGroups: ["*"], kinds: [ClusterRole]}], labelSelector: {matchLabels: {tested: unprintable}}}`)
	r := w.start(report.Options{Formats: []report.Format{report.OpenReports}})
	w.awaitLines("a ClusterReport", clusterReports, "", map[string]string{
		`evil\u009b31m\u202e\u007f`: `fail Wants/roles: lacks x\u009b31m\u202e (warn)`,
	})
	r.awaitCondition("Written", "openreports")
	for shown, u := range w.reports(clusterReports, "") {
		if owners := u.GetOwnerReferences(); len(owners) > 0 {
			t.Errorf("%s is owned by %v", shown, owners)
		}
	}
	w.remove(clusterRoles, "", name)
	w.awaitLines("no ClusterReport", clusterReports, "", map[string]string{})
	r.stop()
}
