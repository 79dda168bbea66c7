package report

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reports, omitted *prometheus.GaugeVec
	requests, errors *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reports: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fusegate_reports", Help: "Report objects of Fusegate's that there are. Only the leader knows.",
		}, []string{"format"}),
		omitted: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fusegate_reports_omitted", Help: "Objects in violation that have no report, since there are as many as may be.",
		}, []string{"format"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_report_requests_total", Help: "Requests to the API server about report objects.",
		}, []string{"format", "verb"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_report_errors_total", Help: "Report objects that could not be read, written or deleted.",
		}, []string{"format"}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.reports), reg.Register(m.omitted), reg.Register(m.requests), reg.Register(m.errors))
}
