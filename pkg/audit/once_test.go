package audit_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/audit"
)

// TestOnce audits without following anything.
func TestOnce(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.stop()
	t.Cleanup(func() { w.start(audit.Options{}) }) // which the world stops
	w.namespace("audit-once", "team: x")
	for _, name := range []string{"a", "b", "c"} {
		w.object("ConfigMap", "audit-once", name, "once: yy")
	}
	w.object("Secret", "audit-once", "d")
	w.template("Wants", "lacks")
	w.constraint("Wants", "maps", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaceSelector: {matchLabels: {team: x}}, labelSelector: {matchLabels: {once: yy}}}`)
	w.constraint("Wants", "secrets", "owner", `{kinds: [{apiGroups: [""], kinds: [Secret]}], namespaces: [audit-once]}`)
	maps := []string{"ConfigMap audit-once/a lacks owner", "ConfigMap audit-once/b lacks owner", "ConfigMap audit-once/c lacks owner"}

	var last audit.Progress
	o := audit.Options{Config: w.config, Reviewer: w.engine, Limit: -1, Progress: func(p audit.Progress) { last = p }}
	cases := map[string]struct {
		reason     string
		may        []string
		want       map[string][]string
		gaps       int
		incomplete string
	}{
		"all": {
			reason: "what a fresh process sees is all there is",
			may:    []string{"*"}, want: map[string][]string{"maps": maps, "secrets": {"Secret audit-once/d lacks owner"}},
		},
		"without a right": {
			reason: "what cannot be read is a gap, and the rest is right",
			may:    []string{"configmaps"}, want: map[string][]string{"maps": maps, "secrets": {"Gap"}},
			gaps: 1, incomplete: "Gap",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w.grant(tc.may...)
			got, err := audit.Once(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, linesOf(got.Outcomes)); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
			checkOnce(t, got, last, tc.gaps, tc.incomplete)
		})
	}
	w.grant("*")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Once(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: got error %v, want that it ended", err)
	}
}

func checkOnce(t *testing.T, got audit.Result, last audit.Progress, gaps int, incomplete string) {
	t.Helper()
	complete, current := got.Report.Conditions[0], got.Report.Conditions[1]
	if (complete.Status == "True") != (incomplete == "") || incomplete != "" && complete.Reason != incomplete {
		t.Errorf("got %+v, want incomplete for %q", complete, incomplete)
	}
	if current.Status != "False" || current.Reason != "ReadOnce" {
		t.Errorf("got %+v, want that nothing is followed", current)
	}
	if len(got.Report.Gaps) != gaps || len(got.Report.Kinds) != 2 || got.Report.ClusterUID == "" {
		t.Errorf("got report %+v, want two kinds, %d gaps and the cluster's identity", got.Report, gaps)
	}
	if last.Kinds != 2 || last.Read != 2 || last.Objects < 3 {
		t.Errorf("the last progress was %+v", last)
	}
}

// TestOnceRagged has the list's version forgotten between two pages: the rest of
// it is newer, and that nobody saw what came and went meanwhile is said.
func TestOnceRagged(t *testing.T) {
	w := newWorld(t, audit.Options{})
	w.stop()
	t.Cleanup(func() { w.start(audit.Options{}) }) // which the world stops
	lines := w.fill("audit-ragged", 60)
	w.template("Wants", "lacks")
	w.constraint("Wants", "owners", "owner", ofMaps("audit-ragged"))
	var once sync.Once
	w.wire.tap(func(r *http.Request) *http.Response {
		if r.URL.Query().Has("continue") && strings.HasSuffix(r.URL.Path, "/configmaps") {
			once.Do(func() {
				if err := w.admin.Resource(configMaps).Namespace("audit-ragged").Delete(r.Context(), "o059", metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
				if err := shared.Get(t).Compact(r.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	got, err := audit.Once(t.Context(), audit.Options{Config: w.config, Reviewer: w.engine, Limit: -1, PageSize: 12})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{"owners": append(lines[:59], "Reading")}, linesOf(got.Outcomes)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	const want = "False Reading the counts are lower bounds: configmaps came and went while they were listed"
	if c := condition(got.Report, v1alpha1.ConditionComplete); c != want {
		t.Errorf("got Complete %s, want %s", c, want)
	}
}
