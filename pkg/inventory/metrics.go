package inventory

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type inventoryMetrics struct {
	objects, bytes, complete, current *prometheus.GaugeVec
	errors                            *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*inventoryMetrics, error) {
	labels := []string{"group", "version", "kind"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fusegate_inventory_" + name, Help: help}, labels)
	}
	m := &inventoryMetrics{
		objects:  gauge("objects", "Objects that referential policies can read."),
		bytes:    gauge("bytes", "Estimate of the memory that they take."),
		complete: gauge("complete", "1 if all objects were once read to the end, so that policies which need them are judged by."),
		current:  gauge("current", "1 if the kind is watched, so that changes show at once."),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_inventory_errors_total", Help: "Attempts to list or watch a kind that failed.",
		}, labels),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.objects, m.bytes, m.complete, m.current, m.errors} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func labelsOf(gvk schema.GroupVersionKind) []string {
	return []string{gvk.Group, gvk.Version, gvk.Kind}
}

func (m *inventoryMetrics) show(gvk schema.GroupVersionKind, objects int, bytes int64) {
	m.objects.WithLabelValues(labelsOf(gvk)...).Set(float64(objects))
	m.bytes.WithLabelValues(labelsOf(gvk)...).Set(float64(bytes))
}

func (m *inventoryMetrics) state(gvk schema.GroupVersionKind, complete, current bool) {
	m.complete.WithLabelValues(labelsOf(gvk)...).Set(number(complete))
	m.current.WithLabelValues(labelsOf(gvk)...).Set(number(current))
	m.errors.WithLabelValues(labelsOf(gvk)...) // there from the start: a rate sees no first event otherwise
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *inventoryMetrics) failed(gvk schema.GroupVersionKind) {
	m.errors.WithLabelValues(labelsOf(gvk)...).Inc()
}

func (m *inventoryMetrics) forget(gvk schema.GroupVersionKind) {
	for _, g := range []*prometheus.GaugeVec{m.objects, m.bytes, m.complete, m.current} {
		g.DeleteLabelValues(labelsOf(gvk)...)
	}
	m.errors.DeleteLabelValues(labelsOf(gvk)...)
}
