package engine

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxTemplates is how many templates have series of their own. All others share one.
const maxTemplates = 100

// otherTemplates is the label of what has no series of its own.
const otherTemplates = "other"

// Metrics is an Observer that counts for Prometheus.
type Metrics struct {
	duration *prometheus.HistogramVec
	panics   prometheus.Counter
	checks   prometheus.Counter
	differs  prometheus.Counter

	mu        sync.Mutex
	templates map[string]bool
}

var _ Observer = (*Metrics)(nil)

// NewMetrics registers the metrics of an engine.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "fusegate_template_evaluation_duration_seconds",
			Help:    "Time that evaluating one constraint took, by template.",
			Buckets: []float64{.00001, .0001, .001, .01, .1, 1},
		}, []string{"template"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fusegate_evaluator_panics_total",
			Help: "Evaluations that panicked: a bug in Fusegate or OPA.",
		}),
		checks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fusegate_evaluator_checks_total",
			Help: "Evaluations by compiled code that were done again by OPA's interpreter, to compare.",
		}),
		differs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fusegate_evaluator_differences_total",
			Help: "Evaluations of which OPA's interpreter made something else than compiled code: a bug in Fusegate. The template is interpreted since.",
		}),
		templates: map[string]bool{},
	}
	for _, c := range []prometheus.Collector{m.duration, m.panics, m.checks, m.differs} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// label is the template of a kind, or what stands for those that are too many.
func (m *Metrics) label(kind string) string {
	template := strings.ToLower(kind)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.templates[template] && len(m.templates) >= maxTemplates {
		return otherTemplates
	}
	m.templates[template] = true
	return template
}

// Timer implements Observer.
func (m *Metrics) Timer(kind string) func(time.Duration) {
	series := m.duration.WithLabelValues(m.label(kind))
	return func(took time.Duration) { series.Observe(took.Seconds()) }
}

// Forget implements Observer. What has gone wrong stays on record.
func (m *Metrics) Forget(template string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.templates[template] {
		delete(m.templates, template)
		m.duration.DeleteLabelValues(template)
	}
}

// Panicked implements Observer.
func (m *Metrics) Panicked(string) { m.panics.Inc() }

// Checked implements Observer.
func (m *Metrics) Checked(_ string, differs bool) {
	m.checks.Inc()
	if differs {
		m.differs.Inc()
	}
}
