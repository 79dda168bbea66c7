package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/test/controlplane"
)

// tries is how often a start may be measured until it is found to be as fast as
// without a webhook. A webhook in its way adds seconds to every one.
const tries = 3

// TestReplay replays the outage. It measures time, which no other test does: a
// bound of 1.5 times the time without a webhook, plus a second. The API server that
// dies takes most of a minute for it and does next to nothing, so that the others are
// tried beside it.
func TestReplay(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *stage){"Outage": testOutage, "Fusegate": testFusegate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := newStage(t.Context(), t.Output())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.close(); err != nil {
					t.Error(err)
				}
			})
			test(t, s)
		})
	}
}

// testOutage checks that the stage is one on which an API server can die. One
// role is enough; each costs 10 s of every attempt.
func testOutage(t *testing.T, s *stage) {
	got := try(t, s, outages, bootstrapped[:1])
	if got.Start.OK || !strings.Contains(got.Start.Error, "rbac/bootstrap-roles") || got.Restored != 0 {
		t.Errorf("got %+v with %d roles back, want the API server to die of rbac/bootstrap-roles", got.Start, got.Restored)
	}
	for i, w := range got.Writes {
		if w.OK || w.Seconds < 5 {
			t.Errorf("%s: got %+v, want it to fail after a long time", probes[i].name, w)
		}
	}
}

// testFusegate compares with no webhook. The tenant's write shows that the
// webhook is armed, and waits no longer than its timeout.
func testFusegate(t *testing.T, s *stage) {
	var without, with trial
	for range tries {
		without, with = try(t, s, bare, bootstrapped), try(t, s, fusegate, bootstrapped)
		if fast(with, without) {
			break
		}
	}
	if !fast(with, without) {
		t.Errorf("got %s\nwant no more than 1.5 times plus 1 s of\n%s", with, without)
	}
	for i, w := range with.Writes {
		if !w.OK || !without.Writes[i].OK {
			t.Errorf("%s: got %+v, and %+v without a webhook, want both made", probes[i].name, w, without.Writes[i])
		}
	}
	if with.Restored != len(bootstrapped) || without.Restored != len(bootstrapped) {
		t.Errorf("got %d roles back, and %d without a webhook, want all", with.Restored, without.Restored)
	}
	if tenants := last(with.Writes); tenants.Seconds < 2.5 || tenants.Seconds > 8 {
		t.Errorf("the tenant's write: got %+v, want it to wait 3 s", tenants)
	}
	if with.Calls != 1 {
		t.Errorf("got %d calls of the backend, want one, for the tenant's write", with.Calls)
	}
}

// fast compares all but the tenant's write.
func fast(with, without trial) bool {
	within := func(a, b outcome) bool { return a.OK && b.OK && a.Seconds <= 1.5*b.Seconds+1 }
	for i := range len(with.Writes) - 1 {
		if !within(with.Writes[i], without.Writes[i]) {
			return false
		}
	}
	return within(with.Start, without.Start)
}

func try(t *testing.T, s *stage, name string, missing []string) trial {
	t.Helper()
	for _, sh := range shapes() {
		if sh.name != name {
			continue
		}
		got, err := s.try(t.Context(), sh, missing)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", name, got)
		return got
	}
	t.Fatalf("no shape %q", name)
	return trial{}
}

func last(all []outcome) outcome { return all[len(all)-1] }

// TestMedian checks that each column is taken for itself.
func TestMedian(t *testing.T) {
	run := func(start, write float64, ok bool, restored, calls int) trial {
		return trial{Start: outcome{OK: true, Seconds: start}, Writes: []outcome{{OK: ok, Seconds: write}}, Restored: restored, Calls: calls}
	}
	got := median([]trial{run(1, 30, true, 5, 1), run(3, 10, true, 4, 3), run(2, 20, false, 5, 2)})
	if diff := cmp.Diff(run(2, 20, false, 4, 3), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestOutput checks both formats of the same rows.
func TestOutput(t *testing.T) {
	died := trial{
		Start:  outcome{Seconds: 40.04, Error: `PostStartHook "x" failed: unable: timed out`},
		Writes: []outcome{{OK: true, Seconds: 0.011}, {Seconds: 10.04, Error: "500"}, {OK: true, Seconds: 3}, {OK: true, Seconds: 3}},
	}
	rows := []row{{Webhook: "w", Says: "how", Median: died, Runs: []trial{died}}}
	var table, report bytes.Buffer
	if err := writeMarkdown(&table, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{controlplane.Version, `| ends after 40.0 s: PostStartHook "x" failed |`, "| 0.01 s ", "| fails after 10.0 s ", "- w: how\n"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("got\n%s\nwant it to contain %q", &table, want)
		}
	}
	if err := writeJSON(&report, rows); err != nil {
		t.Fatal(err)
	}
	var got struct{ Rows []row }
	if err := json.Unmarshal(report.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, got.Rows); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestArguments checks what is refused before anything is started.
func TestArguments(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		runs   int
		format string
		want   string
	}{
		"NoRuns": {reason: "There is no median of nothing.", runs: 0, format: "json", want: "-runs 0"},
		"Format": {reason: "A table after ten minutes, but not the one that was asked for, would be bad.", runs: 1, format: "yaml", want: `-o "yaml"`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(t.Context(), tc.runs, tc.format); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}
