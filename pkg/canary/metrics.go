package canary

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics speak of each API server and of each of the two ways. There are a few
// API servers in a cluster, so that their names are a bounded label.
type metrics struct {
	duration *prometheus.HistogramVec
	total    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "fusegate_canary_duration_seconds",
			Help:    "Time that an API server took to answer a canary, which is what users' requests pay.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 3, 5, 10},
		}, []string{"server", "entry"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_canary_answers_total",
			Help: "Canaries by API server, the entry that they are for, and what became of them.",
		}, []string{"server", "entry", "outcome"}),
	}
	if reg == nil {
		return m, nil
	}
	if err := errors.Join(reg.Register(m.duration), reg.Register(m.total)); err != nil {
		return nil, fmt.Errorf("registering the canary's metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) observe(s Sample) {
	for entry, a := range map[string]Answer{"policy": s.Policy, "path": s.Path} {
		m.duration.WithLabelValues(s.Server, entry).Observe(a.Took.Seconds())
		m.total.WithLabelValues(s.Server, entry, string(a.Outcome)).Inc()
	}
}

func (m *metrics) forget(server string) {
	labels := prometheus.Labels{"server": server}
	m.duration.DeletePartialMatch(labels)
	m.total.DeletePartialMatch(labels)
}
