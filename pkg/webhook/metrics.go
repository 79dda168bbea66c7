package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusegate/fusegate/pkg/policy"
)

// The values of the label decision.
const (
	decisionAllow = "allow"
	decisionWarn  = "warn"
	decisionDeny  = "deny"
	// decisionLimited is a denial of what was not judged: see excess.
	decisionLimited = "limited"
	decisionExempt  = "exempt"
	decisionProbe   = "probe"
	decisionCanary  = "canary"
	decisionError   = "error"
)

// The values of the label lane.
const (
	laneOrdinary = "ordinary"
	laneReserved = "reserved"
)

type metrics struct {
	reviews   *prometheus.CounterVec
	duration  prometheus.Histogram
	faults    *prometheus.CounterVec
	cutOff    prometheus.Counter
	oversized *prometheus.CounterVec
	unjudged  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_admission_reviews_total",
			Help: "Admission requests that reached the webhook, by what they were answered.",
		}, []string{"decision"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fusegate_admission_review_duration_seconds",
			Help:    "Time from the arrival of an admission request to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_admission_faults_total",
			Help: "Constraints that could not be judged for an admission request, by cause.",
		}, []string{"cause"}),
		cutOff: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fusegate_admission_cut_off_total",
			Help: "Constraints that were not judged to the end for an admission request, since it was known to be denied when half of its time was over.",
		}),
		oversized: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_admission_oversized_total",
			Help: "Admission requests denied unseen, since the object is larger than is judged, by what it has too much of.",
		}, []string{"what"}),
		unjudged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fusegate_admission_unjudged_total",
			Help: "Admission requests that were let through without a verdict of all constraints that deny, by whether a controller of the control plane made them.",
		}, []string{"lane"}),
	}
	m.begin()
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.reviews, m.duration, m.faults, m.cutOff, m.oversized, m.unjudged} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// begin has every series there from the start: a rate sees no first event
// otherwise.
func (m *metrics) begin() {
	for _, d := range []string{decisionAllow, decisionWarn, decisionDeny, decisionLimited, decisionExempt, decisionProbe, decisionCanary, decisionError} {
		m.reviews.WithLabelValues(d)
	}
	for _, l := range []string{laneOrdinary, laneReserved} {
		m.unjudged.WithLabelValues(l)
	}
	for _, c := range []policy.FaultCause{policy.CauseInput, policy.CausePolicy, policy.CauseTimeout, policy.CauseMatch, policy.CauseInventory, policy.CauseInternal} {
		m.faults.WithLabelValues(string(c))
	}
	for _, d := range dimensions {
		m.oversized.WithLabelValues(d.name)
	}
}
