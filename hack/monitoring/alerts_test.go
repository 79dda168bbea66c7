package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var root = filepath.Join("..", "..")

func alerts(t *testing.T) map[string]alert {
	t.Helper()
	list, err := readAlerts(filepath.Join(root, "manifests", "monitoring", "prometheusrule.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]alert{}
	for _, a := range list {
		out[a.name] = a
	}
	return out
}

// at is a text of metrics as of a time after start.
type at map[time.Duration]string

// TestAlerts has every alert fire when it should, and not when all is well. What
// it says of a metric's labels is checked against real processes elsewhere.
func TestAlerts(t *testing.T) {
	now := start.Unix()
	for name, tc := range map[string]struct {
		reason       string
		fires, quiet at
	}{
		"FusegateWebhookFailingOpen": {
			reason: "a count that grows",
			fires:  at{0: `apiserver_admission_webhook_fail_open_count{name="validation.fusegate.dev"} 1`, time.Minute: `apiserver_admission_webhook_fail_open_count{name="validation.fusegate.dev"} 5`},
			quiet:  at{0: `apiserver_admission_webhook_fail_open_count{name="x.example.com"} 1`, time.Minute: `apiserver_admission_webhook_fail_open_count{name="x.example.com"} 5`},
		},
		"FusegateCanaryAdmitted": {
			reason: "canaries that come through",
			fires:  at{0: `fusegate_canary_answers_total{server="a",outcome="Admitted"} 1`, time.Minute: `fusegate_canary_answers_total{server="a",outcome="Admitted"} 20`},
			quiet:  at{0: `fusegate_canary_answers_total{server="a",outcome="Denied"} 1`, time.Minute: `fusegate_canary_answers_total{server="a",outcome="Denied"} 20`},
		},
		"FusegateNotEnforced": {
			reason: "for a reason that nobody chose",
			fires:  at{0: `fusegate_constraints{enforced="Unknown",reason="CanaryUnknown"} 2`},
			quiet:  at{0: "fusegate_constraints{enforced=\"False\",reason=\"NotEnforcing\"} 2\nfusegate_constraints{enforced=\"True\",reason=\"CanaryAnswered\"} 2\nfusegate_constraints{enforced=\"False\",reason=\"Ingesting\"} 0"},
		},
		"FusegateWebhookNotArmed": {
			reason: "on no process: those that do not lead say 0",
			fires:  at{0: "fusegate_webhook_armed{pod=\"a\"} 0\nfusegate_webhook_armed{pod=\"b\"} 0"},
			quiet:  at{0: "fusegate_webhook_armed{pod=\"a\"} 0\nfusegate_webhook_armed{pod=\"b\"} 1"},
		},
		"FusegateWebhookNarrowed": {reason: "any", fires: at{0: `fusegate_narrowed_constraints 1`}, quiet: at{0: `fusegate_narrowed_constraints 0`}},
		"FusegateWebhookTampered": {
			reason: "again and again, not once",
			fires:  at{0: `fusegate_guard_restores_total{entry="e",field="f"} 1`, time.Minute: `fusegate_guard_restores_total{entry="e",field="f"} 5`},
			quiet:  at{0: `fusegate_guard_restores_total{entry="e",field="f"} 1`, time.Minute: `fusegate_guard_restores_total{entry="e",field="f"} 2`},
		},
		"FusegateWebhookDown":    {reason: "absent", fires: at{0: `up 1`}, quiet: at{0: `fusegate_admission_review_duration_seconds_count 0`}},
		"FusegateControllerDown": {reason: "absent", fires: at{0: `up 1`}, quiet: at{0: `fusegate_webhook_armed 0`}},
		"FusegateCertificateExpiring": {
			reason: "in less than two weeks, on one process",
			fires:  at{0: "fusegate_certificate_expiry_timestamp_seconds{pod=\"a\"} " + itoa(now+86400) + "\nfusegate_certificate_expiry_timestamp_seconds{pod=\"b\"} " + itoa(now+86400*90)},
			quiet:  at{0: "fusegate_certificate_expiry_timestamp_seconds{pod=\"a\"} NaN\nfusegate_certificate_expiry_timestamp_seconds{pod=\"b\"} " + itoa(now+86400*90)},
		},
		"FusegateSlow": {
			reason: "over a second",
			fires:  buckets("fusegate_canary_duration_seconds_bucket", `entry="policy",server="a"`, "1", "2"),
			quiet:  buckets("fusegate_canary_duration_seconds_bucket", `entry="policy",server="a"`, "0.05", "0.1"),
		},
		"FusegateReviewErrors": {
			reason: "a count that grows",
			fires:  at{0: `fusegate_admission_reviews_total{decision="error"} 0`, time.Minute: `fusegate_admission_reviews_total{decision="error"} 5`},
			quiet:  at{0: `fusegate_admission_reviews_total{decision="deny"} 0`, time.Minute: `fusegate_admission_reviews_total{decision="deny"} 5`},
		},
		"FusegateUnjudged": {
			reason: "a count that grows",
			fires:  at{0: `fusegate_admission_unjudged_total{lane="ordinary"} 0`, time.Minute: `fusegate_admission_unjudged_total{lane="ordinary"} 5`},
			quiet:  at{0: `fusegate_admission_unjudged_total{lane="ordinary"} 5`, time.Minute: `fusegate_admission_unjudged_total{lane="ordinary"} 5`},
		},
		"FusegatePolicyFaults": {
			reason: "a count that grows",
			fires:  at{0: `fusegate_admission_faults_total{cause="Input"} 0`, time.Minute: `fusegate_admission_faults_total{cause="Input"} 5`},
			quiet:  at{0: `fusegate_admission_faults_total{cause="Input"} 5`, time.Minute: `fusegate_admission_faults_total{cause="Input"} 5`},
		},
		"FusegateInterpretedTemplates": {reason: "any", fires: at{0: `fusegate_interpreted_templates 1`}, quiet: at{0: `fusegate_interpreted_templates 0`}},
		"FusegateEvaluatorDiffers":     {reason: "any", fires: at{0: `fusegate_evaluator_differences_total 1`}, quiet: at{0: `fusegate_evaluator_differences_total 0`}},
		"FusegateAuditStale": {
			reason: "the leader's: others say 0",
			fires:  at{0: "fusegate_audit_last_full_pass_timestamp_seconds{pod=\"a\"} 0\nfusegate_audit_last_full_pass_timestamp_seconds{pod=\"b\"} " + itoa(now-4*3600)},
			quiet:  at{0: "fusegate_audit_last_full_pass_timestamp_seconds{pod=\"a\"} 0\nfusegate_audit_last_full_pass_timestamp_seconds{pod=\"b\"} " + itoa(now-3600)},
		},
		"FusegateAuditGaps": {reason: "any", fires: at{0: `fusegate_audit_gaps 1`}, quiet: at{0: `fusegate_audit_gaps 0`}},
		"FusegateAuditErrors": {
			reason: "more than a watch that was cut",
			fires:  at{0: `fusegate_audit_errors_total{group="",kind="Pod",verb="list"} 0`, time.Minute: `fusegate_audit_errors_total{group="",kind="Pod",verb="list"} 10`},
			quiet:  at{0: `fusegate_audit_errors_total{group="",kind="Pod",verb="watch"} 0`, time.Minute: `fusegate_audit_errors_total{group="",kind="Pod",verb="watch"} 1`},
		},
		"FusegateAuditLagging": {
			reason: "over five seconds",
			fires:  buckets("fusegate_audit_lag_seconds_bucket", "", "5", "10"),
			quiet:  buckets("fusegate_audit_lag_seconds_bucket", "", "1", "2"),
		},
		"FusegateAuditDrift": {
			reason: "more than a change on its way",
			fires:  at{0: `fusegate_audit_drift_total{group="",kind="Pod"} 0`, time.Minute: `fusegate_audit_drift_total{group="",kind="Pod"} 50`},
			quiet:  at{0: `fusegate_audit_drift_total{group="",kind="Pod"} 0`, time.Minute: `fusegate_audit_drift_total{group="",kind="Pod"} 1`},
		},
		"FusegateInventoryIncomplete": {
			reason: "in one process",
			fires:  at{0: "fusegate_inventory_complete{kind=\"Pod\",pod=\"a\"} 1\nfusegate_inventory_complete{kind=\"Pod\",pod=\"b\"} 0"},
			quiet:  at{0: "fusegate_inventory_complete{kind=\"Pod\",pod=\"a\"} 1\nfusegate_inventory_complete{kind=\"Pod\",pod=\"b\"} 1"},
		},
		"FusegateInventoryStale": {
			reason: "in one process",
			fires:  at{0: "fusegate_inventory_current{kind=\"Pod\",pod=\"a\"} 1\nfusegate_inventory_current{kind=\"Pod\",pod=\"b\"} 0"},
			quiet:  at{0: "fusegate_inventory_current{kind=\"Pod\",pod=\"a\"} 1\nfusegate_inventory_current{kind=\"Pod\",pod=\"b\"} 1"},
		},
		"FusegateReportsOmitted": {reason: "any", fires: at{0: `fusegate_reports_omitted{format="openreports"} 3`}, quiet: at{0: `fusegate_reports_omitted{format="openreports"} 0`}},
		"FusegateReportErrors": {
			reason: "a count that grows",
			fires:  at{0: `fusegate_report_errors_total{format="openreports"} 0`, time.Minute: `fusegate_report_errors_total{format="openreports"} 1`},
			quiet:  at{0: `fusegate_report_errors_total{format="openreports"} 1`, time.Minute: `fusegate_report_errors_total{format="openreports"} 1`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, ok := alerts(t)[name]
			if !ok {
				t.Fatal("there is no such alert")
			}
			if !fires(t, a, tc.fires) {
				t.Errorf("%s: it does not fire", tc.reason)
			}
			if fires(t, a, tc.quiet) {
				t.Errorf("%s: it fires though all is well", tc.reason)
			}
			tested[name] = true
		})
	}
	for name := range alerts(t) {
		if !tested[name] && !t.Failed() {
			t.Errorf("alert %s has no test", name)
		}
	}
}

var tested = map[string]bool{}

func fires(t *testing.T, a alert, texts at) bool {
	t.Helper()
	d := &data{series: map[string]*series{}}
	for _, after := range slices.Sorted(maps.Keys(texts)) {
		if err := d.add([]byte(texts[after]+"\n"), start.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	v, err := newChecker(d).eval(t.Context(), a.query)
	if err != nil {
		t.Fatal(err)
	}
	return len(v) > 0
}

// buckets have a hundred observations between two bounds in a minute.
func buckets(name, labels, above, upTo string) at {
	if labels != "" {
		labels += ","
	}
	line := func(le, n string) string { return name + "{" + labels + `le="` + le + `"} ` + n + "\n" }
	return at{
		0:           line(above, "0") + line(upTo, "0") + line("+Inf", "0"),
		time.Minute: line(above, "0") + line(upTo, "100") + line("+Inf", "100"),
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// TestRunbooks checks that every alert says what there is to say, and that the
// section that it points to is there.
func TestRunbooks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "monitoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(text), -1) {
		anchors[strings.ToLower(strings.ReplaceAll(m[1], " ", "-"))] = true
	}
	for name, a := range alerts(t) {
		_, anchor, _ := strings.Cut(a.annotations["runbook_url"], "docs/monitoring.md#")
		if !anchors[anchor] || anchor != strings.ToLower(name) {
			t.Errorf("alert %s points to %q: no such section in docs/monitoring.md", name, a.annotations["runbook_url"])
		}
		for _, key := range []string{"summary", "description"} {
			if a.annotations[key] == "" {
				t.Errorf("alert %s has no %s", name, key)
			}
		}
		if s := a.labels["severity"]; !slices.Contains([]string{"critical", "warning", "info"}, s) {
			t.Errorf("alert %s has the severity %q", name, s)
		}
	}
}

// TestChecks sees the check fail for each thing that it is for.
func TestChecks(t *testing.T) {
	d := &data{series: map[string]*series{}}
	if err := d.add([]byte("a{x=\"1\"} 1\n"), start); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ reason, query, want string }{
		"all there": {reason: "nothing to say", query: `sum by (x) (a{x="1"}) > 0`},
		"metric":    {reason: "it was renamed", query: `sum(b)`, want: "no process has the metric b"},
		"label":     {reason: "it was renamed", query: `a{y!="1"}`, want: "a has no label y"},
		"value":     {reason: "nothing says so", query: `a{x="2"}`, want: `a{x="2"} selects no series`},
		"grouping":  {reason: "it would group nothing", query: `sum by (y) (a)`, want: "sum by (y) (a) groups by the label y, which is not there"},
		"result":    {reason: "one scrape gives no rate", query: `rate(a[5m])`, want: "returns no series"},
		"syntax":    {reason: "it is no query", query: `sum(`, want: "unclosed left parenthesis"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := newChecker(d).checkPanel(t.Context(), panel{"p", tc.query}); err != nil {
				got = err.Error()
			}
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
	err := newChecker(d).checkAlert(t.Context(), alert{name: "A", query: "a > 5", annotations: map[string]string{"description": "{{ $labels.y }}"}})
	if err == nil || !strings.Contains(err.Error(), "a text names the label y") {
		t.Errorf("a text that names a label which is not there: got %v", err)
	}
}
