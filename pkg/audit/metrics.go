package audit

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// maxNamed bounds the constraints that metrics tell by name. What others find is
// summed up.
const maxNamed = 1000

type auditMetrics struct {
	violations, exempt *prometheus.GaugeVec
	constraints        *prometheus.GaugeVec
	objects            *prometheus.GaugeVec
	reviewed           *prometheus.CounterVec
	requests           *prometheus.CounterVec
	errors             *prometheus.CounterVec
	drift              *prometheus.CounterVec
	lag                prometheus.Histogram
	lastPass           prometheus.Gauge
	gaps, costly       prometheus.Gauge
	named              int // constraints that are told by name
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
		violations:  gauge("violations", "Violations of existing objects by constraint and action, exempt ones aside; without a name those of all constraints beyond the first thousand. Only the leader knows.", "constraint_kind", "constraint_name", "action"),
		exempt:      gauge("exempt_violations", "Violations of objects in exempt namespaces.", "constraint_kind", "constraint_name"),
		constraints: gauge("constraints", "Constraints by how completely they are audited, which is the reason of their condition Audited.", "reason"),
		objects:     gauge("objects", "Objects of the kinds that are audited.", kind...),
		reviewed:    counter("objects_reviewed_total", "Reviews of objects.", kind...),
		requests:    counter("requests_total", "Requests to the API server.", "verb"),
		errors:      counter("errors_total", "Requests that failed, and watches that had to be begun anew.", "group", "kind", "verb"),
		drift:       counter("drift_total", "Objects of which a full read found other than what was known, though no change of them was on its way.", kind...),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fusegate_audit_lag_seconds", Help: "From the arrival of a change to its verdict.",
			Buckets: []float64{.001, .005, .02, .1, .5, 1, 2, 5, 10, 30, 60, 300},
		}),
		lastPass: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fusegate_audit_last_full_pass_timestamp_seconds", Help: "When the kind that was read longest ago was read as a whole.",
		}),
		gaps: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fusegate_audit_gaps", Help: "What audit cannot see; a hundred stands for more."}),
		costly: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fusegate_audit_costly_objects", Help: "Objects on which a constraint uses over half of its budget, once for each constraint.",
		}),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.violations, m.exempt, m.constraints, m.objects, m.reviewed, m.requests, m.errors, m.drift, m.lag, m.lastPass, m.gaps, m.costly} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// show brings the gauges up to date. The caller holds the Auditor's lock.
func (m *auditMetrics) show(a *Auditor, r v1alpha1.AuditReportStatus, oldest time.Time) {
	rest, exempt, costly := map[string]int64{}, int64(0), int64(0)
	reasons := map[string]int{}
	for _, c := range a.known {
		if c.cached == nil {
			reasons[v1alpha1.ReasonReading]++
			continue
		}
		reasons[c.cached.Reason]++
		costly += c.cached.Costly
		action := string(c.cached.Constraint.Strictest())
		if !m.name(c) {
			rest[action], exempt = rest[action]+c.cached.Total, exempt+c.cached.Exempt
			continue
		}
		if c.shown != c.cached {
			m.unset(c.name)
			m.set(c.name, action, c.cached.Total, c.cached.Exempt)
			c.shown = c.cached
		}
	}
	m.unset(name{})
	for n, x := range a.absent {
		if !a.covers(n, x) {
			reasons[v1alpha1.ReasonNotInForce]++
		}
	}
	for action, n := range rest {
		m.set(name{}, action, n, exempt)
	}
	m.constraints.Reset()
	for reason, n := range reasons {
		m.constraints.WithLabelValues(reason).Set(float64(n))
	}
	m.objects.Reset()
	for _, k := range r.Kinds {
		m.objects.WithLabelValues(k.Group, k.Kind).Set(float64(k.Objects))
		// There from the start: a rate sees no first event otherwise.
		m.drift.WithLabelValues(k.Group, k.Kind)
		m.errors.WithLabelValues(k.Group, k.Kind, "list")
		m.errors.WithLabelValues(k.Group, k.Kind, "watch")
	}
	m.gaps.Set(float64(len(r.Gaps)))
	m.costly.Set(float64(costly))
	if !oldest.IsZero() {
		m.lastPass.Set(float64(oldest.Unix()))
	}
}

// name tells whether a constraint is told by name.
func (m *auditMetrics) name(c *constraint) bool {
	if !c.named && m.named < maxNamed {
		c.named = true
		m.named++
	}
	return c.named
}

func (m *auditMetrics) set(n name, action string, total, exempt int64) {
	m.violations.WithLabelValues(n.kind, n.name, action).Set(float64(total))
	m.exempt.WithLabelValues(n.kind, n.name).Set(float64(exempt))
}

func (m *auditMetrics) unset(n name) {
	labels := prometheus.Labels{"constraint_kind": n.kind, "constraint_name": n.name}
	m.violations.DeletePartialMatch(labels)
	m.exempt.DeletePartialMatch(labels)
}

func (m *auditMetrics) forget(c *constraint) {
	if c.named {
		m.named--
		m.unset(c.name)
	}
}
