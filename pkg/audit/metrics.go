package audit

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

type auditMetrics struct {
	violations, exempt *prometheus.GaugeVec
	reviewed           *prometheus.CounterVec
	requests           *prometheus.CounterVec
	errors             *prometheus.CounterVec
	drift              *prometheus.CounterVec
	lag                prometheus.Histogram
	lastPass           prometheus.Gauge
	gaps               prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*auditMetrics, error) {
	kind := []string{"group", "kind"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fusegate_audit_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fusegate_audit_" + name, Help: help}, labels)
	}
	m := &auditMetrics{
		violations: gauge("violations", "Violations of existing objects by constraint and action, exempt ones aside. Only the leader knows.", "constraint_kind", "constraint_name", "action"),
		exempt:     gauge("exempt_violations", "Violations of objects in exempt namespaces.", "constraint_kind", "constraint_name"),
		reviewed:   counter("objects_reviewed_total", "Reviews of objects.", kind...),
		requests:   counter("requests_total", "Requests to the API server.", "verb"),
		errors:     counter("errors_total", "Lists and watches that failed or had to be begun anew.", kind...),
		drift:      counter("drift_total", "Objects of which a full read found other than what was known. A few are changes that were on their way.", kind...),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fusegate_audit_lag_seconds", Help: "From the arrival of a change to its verdict.",
			Buckets: []float64{.001, .005, .02, .1, .5, 1, 2, 5, 10, 30, 60, 300},
		}),
		lastPass: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fusegate_audit_last_full_pass_timestamp_seconds", Help: "When the kind that was read longest ago was read as a whole.",
		}),
		gaps: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fusegate_audit_gaps", Help: "What audit cannot see; a hundred stands for more."}),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.violations, m.exempt, m.reviewed, m.requests, m.errors, m.drift, m.lag, m.lastPass, m.gaps} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// show brings the gauges up to date. The caller holds the Auditor's lock.
func (m *auditMetrics) show(a *Auditor, r v1alpha1.AuditReportStatus, oldest time.Time) {
	for _, c := range a.known {
		if c.cached == nil || c.shown == c.cached {
			continue
		}
		m.forget(c)
		c.shown = c.cached
		m.violations.WithLabelValues(c.name.kind, c.name.name, string(strongest(c.cached.Constraint))).Set(float64(c.cached.Total))
		m.exempt.WithLabelValues(c.name.kind, c.name.name).Set(float64(c.cached.Exempt))
	}
	m.gaps.Set(float64(len(r.Gaps)))
	if !oldest.IsZero() {
		m.lastPass.Set(float64(oldest.Unix()))
	}
}

func (m *auditMetrics) forget(c *constraint) {
	labels := prometheus.Labels{"constraint_kind": c.name.kind, "constraint_name": c.name.name}
	m.violations.DeletePartialMatch(labels)
	m.exempt.DeletePartialMatch(labels)
}
