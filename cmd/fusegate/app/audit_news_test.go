package app

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/audit"
)

// heard are the Events that were emitted.
type heard []string

// Eventf implements events.EventRecorder.
func (h *heard) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	*h = append(*h, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

// TestAuditNews: totals that leave zero or reach it are told, once and not too
// often.
func TestAuditNews(t *testing.T) {
	const found, gone = "Warning Violated 2 violations exist, the first by ConfigMap a/b: bad", "Normal NotViolated no violations exist any more"
	cases := map[string]struct {
		reason string
		before int64
		totals []int64
		apart  time.Duration
		want   heard
	}{
		"leaves zero":    {reason: "that is news", totals: []int64{2, 2, 2}, apart: newsEvery, want: heard{found}},
		"reaches zero":   {reason: "so is that", before: 3, totals: []int64{3, 0, 0}, apart: newsEvery, want: heard{gone}},
		"another leader": {reason: "it has told that already", before: 5, totals: []int64{2}, apart: newsEvery},
		"stays at zero":  {reason: "nothing happens", totals: []int64{0, 0}, apart: newsEvery},
		"back and forth": {reason: "slowly enough, all is told", totals: []int64{2, 0, 2}, apart: newsEvery, want: heard{found, gone, found}},
		"too often":      {reason: "what comes too soon is not told", totals: []int64{2, 0, 2, 0, 2, 0, 2}, want: heard{found}},
		"late":           {reason: "what came too soon is told later", totals: []int64{2, 0, 0, 0}, apart: newsEvery / 2, want: heard{found, gone}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got heard
			n := newAuditNews(&got)
			u := &unstructured.Unstructured{Object: map[string]any{"kind": "K", "metadata": map[string]any{"name": "n", "uid": "u"}, "status": map[string]any{"totalViolations": tc.before}}}
			n.meet(u)
			for _, total := range tc.totals {
				o := &audit.Outcome{Total: total, Complete: true}
				if total > 0 {
					o.Violations = []v1alpha1.Violation{{Kind: "ConfigMap", Namespace: "a", Name: "b", Message: "bad"}}
				}
				n.tell(u, o)
				n.age("K/n", tc.apart)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// age has time pass for what was told of a constraint.
func (n *auditNews) age(constraint string, by time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.said[constraint]
	s.at = s.at.Add(-by)
	n.said[constraint] = s
}
