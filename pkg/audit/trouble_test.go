package audit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/timing"
)

// tap has requests answered by f; nil has the API server answer all.
func (w *wire) tap(f func(*http.Request) *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

// says is an answer to r.
func says(r *http.Request, code int, body string) *http.Response {
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}

// status is the answer with which an API server refuses something.
func status(r *http.Request, code int, reason metav1.StatusReason) *http.Response {
	return says(r, code, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"as the test wants","reason":%q,"code":%d}`, reason, code))
}

// skipping is a hasty clock that can be put forward. Timers do not notice.
type skipping struct {
	hasty
	by atomic.Int64
}

func (c *skipping) Now() time.Time { return c.RealClock.Now().Add(time.Duration(c.by.Load())) }

func (c *skipping) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// hasty is a clock whose timers do not take their time.
type hasty struct{ clock.RealClock }

type hastyTimer struct{ clock.Timer }

func (c hasty) NewTimer(d time.Duration) clock.Timer { return hastyTimer{c.RealClock.NewTimer(d / 20)} }

func (t hastyTimer) Reset(d time.Duration) bool { return t.Timer.Reset(d / 20) }

// fill makes n ConfigMaps in a namespace, removes them when the test ends, and
// returns what is found of them.
func (w *world) fill(namespace string, n int) []string {
	w.t.Helper()
	w.namespace(namespace)
	var lines []string
	for i := range n {
		name := fmt.Sprintf("o%03d", i)
		w.object("ConfigMap", namespace, name)
		lines = append(lines, fmt.Sprintf("ConfigMap %s/%s lacks owner", namespace, name))
	}
	w.t.Cleanup(func() {
		err := w.admin.Resource(configMaps).Namespace(namespace).DeleteCollection(context.Background(), metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil {
			w.t.Error(err)
		}
	})
	return lines
}

// ofMaps is a constraint on the ConfigMaps of a namespace.
func ofMaps(namespace string) string {
	return `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [` + namespace + `]}`
}

func condition(r v1alpha1.AuditReportStatus, of string) string {
	for _, c := range r.Conditions {
		if c.Type == of {
			return string(c.Status) + " " + c.Reason + " " + c.Message
		}
	}
	return ""
}

// awaitReport waits until the conditions Complete and Current begin so.
func (w *world) awaitReport(what, complete, current string) {
	w.t.Helper()
	await(w.t, what, func() error {
		r := w.auditor.Report()
		if c := condition(r, v1alpha1.ConditionComplete); !strings.HasPrefix(c, complete) {
			return fmt.Errorf("got Complete %s, want %s", c, complete)
		}
		if c := condition(r, v1alpha1.ConditionCurrent); !strings.HasPrefix(c, current) {
			return fmt.Errorf("got Current %s, want %s", c, current)
		}
		return nil
	})
}

// TestLatePage has a list fail at its second page again and again: nothing is
// said while that may pass, and then that it is a gap, until all has been read.
func TestLatePage(t *testing.T) {
	c := &skipping{}
	w := newWorld(t, audit.Options{Clock: c, Limit: 100, PageSize: 12})
	lines := w.fill("audit-late", 60)
	var failures atomic.Int64
	w.wire.tap(func(r *http.Request) *http.Response {
		if !strings.HasSuffix(r.URL.Path, "/configmaps") || !r.URL.Query().Has("continue") {
			return nil
		}
		failures.Add(1)
		return status(r, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	})
	w.template("Wants", "lacks")
	w.constraint("Wants", "owners", "owner", ofMaps("audit-late"))
	fail := func(n int64) {
		t.Helper()
		n += failures.Load()
		await(t, "failures", func() error {
			if got := failures.Load(); got < n {
				return fmt.Errorf("got %d of %d", got, n)
			}
			if r := w.auditor.Report(); failures.Load() > 1 && (len(r.Gaps) != 1 || r.Kinds[0].Followed) {
				t.Fatalf("got gaps %+v and kinds %+v, want a gap, and that nothing is followed", r.Gaps, r.Kinds)
			}
			return nil
		})
	}
	fail(2)
	if got := w.sink.lines(); len(got) > 0 {
		t.Errorf("got %v though that may pass", got)
	}
	for range 4 {
		fail(1)
		c.by.Add(int64(time.Minute))
	}
	fail(1)
	await(t, "a gap", func() error {
		if got := w.sink.lines()["owners"]; !slices.Contains(got, "Gap") {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	w.awaitReport("the report to say so", "False Gap", "False NotWatched")
	w.wire.tap(nil)
	w.await("the end of the list", map[string][]string{"owners": lines})
	w.awaitReport("no gap", "True", "True")
}

// TestRefusedWatch takes the right to watch, and not that to list, away: what
// there is is read to its end, now and then, and it is said that it is not
// followed.
func TestRefusedWatch(t *testing.T) {
	w := newWorld(t, audit.Options{Resync: 200 * time.Millisecond, Limit: 100, PageSize: 12})
	lines := w.fill("audit-refused", 60)
	w.rights("{apiGroups: [''], resources: [namespaces], verbs: [list, watch]}", "{apiGroups: [''], resources: [configmaps], verbs: [list]}")
	w.template("Wants", "lacks")
	w.constraint("Wants", "owners", "owner", ofMaps("audit-refused"))
	w.await("all of it", map[string][]string{"owners": append(slices.Clone(lines), "Reading")})
	w.awaitReport("what is not followed", "True", "False NotWatched 1 kinds are not followed; 1 cannot be watched: watching configmaps: ")
	w.remove(configMaps, "audit-refused", "o000")
	w.await("what is gone", map[string][]string{"owners": append(slices.Clone(lines[1:]), "Reading")})
	w.grant("*")
	w.await("the right again", map[string][]string{"owners": lines[1:]})
	w.awaitReport("what is followed", "True", "True")
	w.object("ConfigMap", "audit-refused", "o000")
	w.await("what is new", map[string][]string{"owners": lines})
}

// TestEmptyWatch has watches of a kind end as soon as they are made.
func TestEmptyWatch(t *testing.T) {
	w := newWorld(t, audit.Options{Clock: hasty{}, Limit: 100})
	lines := w.fill("audit-empty", 2)
	w.wire.tap(func(r *http.Request) *http.Response {
		if !strings.HasSuffix(r.URL.Path, "/configmaps") || !r.URL.Query().Has("watch") {
			return nil
		}
		return says(r, http.StatusOK, "")
	})
	w.template("Wants", "lacks")
	w.constraint("Wants", "owners", "owner", ofMaps("audit-empty"))
	w.await("that nothing is followed", map[string][]string{"owners": append(slices.Clone(lines), "Reading")})
	w.awaitReport("the report to say so", "True", "False NotWatched")
	w.wire.tap(nil)
	w.await("a watch", map[string][]string{"owners": lines})
	w.awaitReport("what is followed", "True", "True")
}

// onNamespaces tells requests to list or watch Namespaces.
func onNamespaces(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/namespaces")
}

// TestNamespaceTrouble has changes of namespaces missed: constraints that look at
// them say so, and no others.
func TestNamespaceTrouble(t *testing.T) {
	c := &skipping{}
	w := newWorld(t, audit.Options{Clock: c, CheckRights: time.Second})
	w.fill("audit-blind", 1)
	w.template("Wants", "lacks")
	w.constraint("Wants", "owners", "owner", ofMaps("audit-blind"))
	w.constraint("Wants", "teams", "team", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaceSelector: {matchLabels: {blind: "no"}}}`)
	owners, teams := []string{"ConfigMap audit-blind/o000 lacks owner"}, []string{"ConfigMap audit-blind/o000 lacks team"}
	cases := map[string]struct {
		reason   string
		lose     func()
		complete string
	}{
		"Failing": {reason: "they cannot be listed for a reason that may pass", complete: "False Reading", lose: func() {
			w.wire.tap(func(r *http.Request) *http.Response {
				switch {
				case !onNamespaces(r):
					return nil
				case r.URL.Query().Has("watch"):
					return status(r, http.StatusGone, metav1.StatusReasonExpired)
				}
				return status(r, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
			})
			w.wire.cut("/namespaces", false)
		}},
		"Revoked": {reason: "the right is gone, and the watch goes on", complete: "False Gap", lose: func() {
			w.rights("{apiGroups: [''], resources: [configmaps], verbs: [list, watch]}")
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w.namespace("audit-blind", `blind: "no"`)
			w.await("the beginning", map[string][]string{"owners": owners, "teams": teams})
			w.awaitReport("a clean report", "True", "True")
			lists := w.wire.listed("/namespaces")
			tc.lose()
			await(t, "a list that fails", func() error {
				if w.wire.listed("/namespaces") == lists {
					return errors.New("there is none: " + tc.reason)
				}
				return nil
			})
			w.namespace("audit-blind", `blind: "yes"`)
			await(t, "that changes are missed", func() error {
				c.by.Add(int64(time.Second))
				if got := w.sink.lines(); !slices.Equal(got["teams"], append(slices.Clone(teams), "Reading")) || !slices.Equal(got["owners"], owners) {
					return fmt.Errorf("got %v", got)
				}
				return nil
			})
			w.awaitReport("the report to say so", tc.complete, "False NotWatched since")
			w.grant("*")
			w.wire.tap(nil)
			w.await("the end of it", map[string][]string{"owners": owners, "teams": {}})
			w.awaitReport("a clean report", "True", "True")
		})
	}
}

// TestNamespaceRetry has the watch of namespaces lost again and again: the tenth
// time it is back as soon as the first.
func TestNamespaceRetry(t *testing.T) {
	// With these, what grows with each loss is seconds after a few of them.
	w := newWorld(t, audit.Options{Clock: hasty{}, Timings: timing.Production()})
	w.fill("audit-retry", 1)
	w.template("Wants", "lacks")
	w.constraint("Wants", "owners", "owner", `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaceSelector: {matchLabels: {retry: "no"}}}`)
	w.await("the beginning", map[string][]string{"owners": {}})
	least := time.Hour
	for i := range 10 {
		var gone atomic.Bool
		w.wire.tap(func(r *http.Request) *http.Response {
			if onNamespaces(r) && r.URL.Query().Has("watch") && !gone.Swap(true) {
				return status(r, http.StatusGone, metav1.StatusReasonExpired)
			}
			return nil
		})
		label, want := `retry: "no"`, []string{"ConfigMap audit-retry/o000 lacks owner"}
		if i%2 > 0 {
			label, want = `retry: "yes"`, []string{}
		}
		lost := time.Now()
		w.wire.cut("/namespaces", false)
		await(t, "a lost watch", func() error {
			if !gone.Load() {
				return errors.New("it goes on")
			}
			return nil
		})
		w.namespace("audit-retry", label)
		w.await("a changed label", map[string][]string{"owners": want})
		if took := time.Since(lost); i > 5 {
			least = min(least, took)
		}
	}
	if least > time.Second {
		t.Errorf("after ten losses it took %v at least until namespaces were followed again", least)
	}
}
