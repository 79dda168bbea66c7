package status_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	recording "sigs.k8s.io/controller-runtime/pkg/recorder"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/test/controlplane"
)

// everyClass has a character of each class that is not printable, and bytes that are
// none.
const everyClass = "a\x00\x1b[31m\x7f\u0085\u009b31m\u00ad\u200b\u200d\u2028\u2029\u202e\u2066\u3164\ufeff\ufffe\U000e0041\U0010ffff\xff\xed\xa0\x80b"

// hidden returns what must not be in any status.
func hidden(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point, unicode.Other_Default_Ignorable_Code_Point) {
			return r
		}
		return -1
	}, text)
}

// TestPrintable writes every class of characters wherever text of users gets into a
// status, and into an Event, of a real API server. It refuses some in what is applied.
func TestPrintable(t *testing.T) {
	c := newClient(t)
	u := newObject(t, c, "Printed", "one")
	check := func(what string, path ...string) {
		t.Helper()
		u = current(t, c, u)
		value, _, _ := unstructured.NestedFieldNoCopy(u.Object, append([]string{"status"}, path...)...)
		text := fmt.Sprint(value)
		if !strings.Contains(text, `\u001b[31m\u007f\u0085\u009b31m`) || hidden(text) != "" {
			t.Errorf("%s: got %q, of it hidden %q", what, text, hidden(text))
		}
	}
	dirty := condition("One", everyClass)
	if _, err := status.Condition(t.Context(), c, u, dirty); err != nil {
		t.Fatal(err)
	}
	check("condition", "conditions")
	w, err := status.NewWriter(c, "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	fault := status.Fault{Time: time.Now(), Cause: "Input", Message: everyClass, Kind: everyClass, Namespace: everyClass, Name: everyClass, User: everyClass + strings.Repeat("x", 1<<20)}
	if err := w.Constraint(t.Context(), u, true, []status.Error{{Code: "c", Message: everyClass, Location: everyClass}}, status.Faults{Count: 1, Last: fault}); err != nil {
		t.Fatal(err)
	}
	check("byPod", "byPod")
	violation := v1alpha1.Violation{Kind: everyClass, Namespace: everyClass, Name: everyClass, Message: everyClass}
	found := status.Audit{Total: 1, Exempt: 1, Violations: []v1alpha1.Violation{violation}, ExemptViolations: []v1alpha1.Violation{violation},
		Costly: 1, CostlyObjects: []v1alpha1.CostlyObject{{Kind: everyClass, Namespace: everyClass, Name: everyClass}}, At: time.Now(), Read: time.Now(), Condition: dirty}
	if _, err := status.Audited(t.Context(), c, u, found, time.Hour); err != nil {
		t.Fatal(err)
	}
	check("violations", "violations")
	check("exempt violations", "exemptViolations")
	check("costly objects", "costlyObjects")
	version := u.GetResourceVersion()
	if _, err := status.Condition(t.Context(), c, u, dirty); err != nil {
		t.Fatal(err)
	}
	if wrote, err := status.Audited(t.Context(), c, u, found, time.Hour); err != nil || wrote || current(t, c, u).GetResourceVersion() != version {
		t.Errorf("the same is written again: %v, %v", wrote, err)
	}
	t.Run("AuditReport", func(t *testing.T) {
		printReport(t, c, dirty)
		reportTooMuch(t, c)
	})
	t.Run("Event", func(t *testing.T) { printEvent(t, u) })
}

// reportTooMuch writes a report whose every list alone is too long for an object:
// one of them must not keep the others out.
func reportTooMuch(t *testing.T, c client.Client) {
	t.Helper()
	const most = 500
	long := strings.Repeat("x", 4<<10)
	report := v1alpha1.AuditReportStatus{}
	for range most {
		report.Kinds = append(report.Kinds, v1alpha1.AuditedKind{Kind: long})
		report.Gaps = append(report.Gaps, v1alpha1.AuditGap{Name: "n", Reason: "R", Message: long})
		report.NotAuditable = append(report.NotAuditable, v1alpha1.NotAuditable{Constraint: long, Extent: v1alpha1.ExtentFull})
		report.Unjudged = append(report.Unjudged, v1alpha1.UnjudgedObject{Kind: "Pod", Name: "n", UID: "u", Time: metav1.Now(), Violates: []string{long}})
	}
	if err := status.Reported(t.Context(), c, report); err != nil {
		t.Fatalf("%.300v", err)
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.AuditReportKind))
	u.SetName(v1alpha1.AuditReportName)
	written := current(t, c, u).Object["status"].(map[string]any)
	for _, field := range []string{"kinds", "gaps", "notAuditable", "unjudged"} {
		if list, _ := written[field].([]any); len(list) == 0 || len(list) >= most {
			t.Errorf("%s: %d items are written, want the first of %d", field, len(list), most)
		}
	}
}

func printReport(t *testing.T, c client.Client, dirty metav1.Condition) {
	t.Helper()
	report := v1alpha1.AuditReportStatus{
		Conditions: []metav1.Condition{dirty},
		Gaps:       []v1alpha1.AuditGap{{Name: everyClass, Reason: "R", Message: everyClass}},
	}
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		last = status.Reported(ctx, c, report)
		return last == nil, nil // its kind is not served at once
	})
	if err != nil {
		t.Fatal(err, last)
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.AuditReportKind))
	u.SetName(v1alpha1.AuditReportName)
	// Every field is optional, for what an earlier version has stored.
	sparse := client.RawPatch(types.MergePatchType, []byte(`{"status": {"totalViolations": null, "kinds": [{"kind": "Pod"}], "notAuditable": [{"constraint": "K/a"}]}}`))
	if err := c.Status().Patch(t.Context(), current(t, c, u), sparse); err != nil {
		t.Error(err)
	}
	for _, field := range []string{"conditions", "gaps"} {
		if text := fmt.Sprint(current(t, c, u).Object["status"].(map[string]any)[field]); !strings.Contains(text, `\u009b31m`) || hidden(text) != "" {
			t.Errorf("%s: got %q", field, text)
		}
	}
}

func printEvent(t *testing.T, about *unstructured.Unstructured) {
	t.Helper()
	clients := kubernetes.NewForConfigOrDie(plane.Get(t).Config(controlplane.Admin))
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: clients.EventsV1()})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	defer broadcaster.Shutdown()
	recorder := status.Recorder(broadcaster.NewRecorder(newScheme(t), "test").(recording.EventRecorder))
	recorder.Eventf(about, nil, corev1.EventTypeWarning, "Printed", "Test", "%s\nsecond line %s", everyClass, strings.Repeat("x", 2000))
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		list, err := clients.EventsV1().Events("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, e := range list.Items {
			if e.Reason != "Printed" {
				continue
			}
			if hidden(e.Note) != "" || strings.Contains(e.Note, "\n") || !strings.Contains(e.Note, `\u009b31m`) || len(e.Note) > 1024 || !strings.HasSuffix(e.Note, "...") {
				return false, fmt.Errorf("got note %q", e.Note)
			}
			return true, nil
		}
		return false, nil
	})
	if err != nil {
		t.Errorf("the Event: %v", err)
	}
}
