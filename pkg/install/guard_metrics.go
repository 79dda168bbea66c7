package install

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// guardMetrics are what there is to alert on.
type guardMetrics struct {
	restores *prometheus.CounterVec
	armed    prometheus.Gauge
	narrowed prometheus.Gauge
}

func newGuardMetrics(reg prometheus.Registerer) (*guardMetrics, error) {
	m := &guardMetrics{
		restores: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_guard_restores_total",
			Help: "Fields of the webhook configuration that somebody changed and the guard put back.",
		}, []string{"entry", "field"}),
		armed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fusegate_webhook_armed",
			Help: "1 while the webhook configuration is as rendered, with the rules that the constraints need. Only the leader knows.",
		}),
		narrowed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fusegate_narrowed_constraints",
			Help: "Constraints whose requests somebody else's change keeps from the webhook. Only the leader knows.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.restores), reg.Register(m.armed), reg.Register(m.narrowed))
}
