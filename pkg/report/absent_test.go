package report_test

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/fusegate/fusegate/pkg/report"
)

// TestAbsent reports to a cluster that does not know the kinds yet.
func TestAbsent(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"reports.openreports.io", "clusterreports.openreports.io"} {
		if w.get(definitions, "", name) != nil {
			w.undefine(name)
		}
	}
	w.namespace("absent")
	w.configMap("absent", "bare")
	w.constraint("absent", "deny", "owner", matching("absent"))
	clock := clocktesting.NewFakePassiveClock(time.Now())
	r := w.start(report.Options{Formats: []report.Format{report.OpenReports}, Clock: clock})
	r.awaitCondition("NotWritten", `openreports: the cluster does not serve openreports.io/v1alpha1: install its definitions, as "fusegate install --reports=openreports" does: listing reports.openreports.io`)

	w.ours("openreports.io_reports.yaml", "openreports.io_clusterreports.yaml")
	clock.SetTime(clock.Now().Add(time.Minute))
	w.awaitLines("reports once there can be some", openReports, "absent", map[string]string{"bare": "fail Wants/absent: lacks owner (deny)"})
	r.awaitCondition("Written", "openreports")

	w.undefine("reports.openreports.io")
	w.configMap("absent", "bare-too")
	r.awaitCondition("NotWritten", "openreports: the cluster does not serve")
}
