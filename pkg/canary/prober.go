package canary

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/notify"
	"github.com/fusegate/fusegate/pkg/timing"
)

const (
	// patience is how many answers in a row must be wrong before a proof no
	// longer holds: one lost packet is no outage. Two canaries that were both
	// let through after slow are enough by themselves.
	patience = 2
	slow     = time.Second
)

// Servers lists the API servers to ask.
type Servers interface {
	Servers(ctx context.Context) ([]Server, error)
}

// Prober asks every API server again and again. It runs on the leader.
type Prober struct {
	// Timings are how often it asks. They are set before Start, if at all.
	Timings timing.Timings

	servers  Servers
	revision func() string
	metrics  *metrics
	log      logr.Logger
	look     notify.Signal
	tell     func()

	mu      sync.Mutex
	records map[string]*record // by server
	asked   bool
	problem error // why the servers could not be listed
}

// record is what is known of one API server.
type record struct {
	proven string // the last revision that it answered at
	wrong  int    // answers in a row that were not a denial at the revision
	last   Sample
	since  time.Time // when it was first asked about the revision of last
}

// NewProber returns a prober. revision returns the one that is to be proven,
// empty while there is none. The error is that of registering metrics.
func NewProber(s Servers, revision func() string, reg prometheus.Registerer, log logr.Logger) (*Prober, error) {
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	return &Prober{servers: s, revision: revision, metrics: m, log: log, look: notify.New(), tell: func() {}, records: map[string]*record{}}, nil
}

func (p *Prober) pace() timing.Timings { return p.Timings.Filled() }

// Tell has f called when Proof says something else of the current revision than
// after the round before. f must not block. It is to be called before Start, if
// at all.
func (p *Prober) Tell(f func()) { p.tell = f }

// Look has the revision looked at, which may have changed. It does not block.
func (p *Prober) Look() { p.look.Set() }

// Start asks until ctx ends.
func (p *Prober) Start(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var changed time.Time // when the revision did
	last, said := "", Proof{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.look.C():
		case <-timer.C:
		}
		revision := p.revision()
		if revision != last {
			last, changed = revision, time.Now()
		}
		if p.due(revision) {
			p.round(ctx, revision)
		}
		if now := p.Proof(revision); now != said {
			said = now
			p.tell()
		}
		timer.Reset(p.pause(revision, changed))
	}
}

// due tells whether it is time to ask again.
func (p *Prober) due(revision string) bool {
	return revision != "" && p.rest(revision) <= 0
}

// rest is how long no API server needs to be asked.
func (p *Prober) rest(revision string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.records) == 0 {
		return 0
	}
	out := p.pace().Canary
	for _, r := range p.records {
		if r.proven != revision || r.wrong > 0 {
			return 0
		}
		out = min(out, p.pace().Canary-time.Since(r.last.At))
	}
	return out
}

// pause is how long to wait unless there is a new revision.
func (p *Prober) pause(revision string, changed time.Time) time.Duration {
	switch {
	case revision == "":
		return p.pace().Canary
	case p.proven(revision):
		return max(p.rest(revision), time.Millisecond)
	case time.Since(changed) > p.pace().CanaryEagerFor:
		return p.pace().Canary
	}
	return p.pace().CanaryEager
}

func (p *Prober) proven(revision string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.records {
		if r.proven != revision || r.wrong > 0 {
			return false
		}
	}
	return len(p.records) > 0 && p.problem == nil
}

// round asks every API server once, at the same time.
func (p *Prober) round(ctx context.Context, revision string) {
	servers, err := p.servers.Servers(ctx)
	p.mu.Lock()
	before := p.problem
	p.problem = err
	p.mu.Unlock()
	if err != nil {
		if before == nil || before.Error() != err.Error() {
			p.log.Error(err, "API servers not listed; no canary was sent")
		}
		return
	}
	samples := make([]Sample, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { samples[i] = Ask(ctx, s, revision) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	p.keep(samples)
}

// keep records the samples and forgets API servers that are gone.
func (p *Prober) keep(samples []Sample) {
	for name := range p.records {
		if !slices.ContainsFunc(samples, func(s Sample) bool { return s.Server == name }) {
			delete(p.records, name)
			p.metrics.forget(name)
		}
	}
	for _, s := range samples {
		r := p.records[s.Server]
		if r == nil {
			r = &record{}
			p.records[s.Server] = r
		}
		p.note(r, s)
	}
}

func (p *Prober) note(r *record, s Sample) {
	p.metrics.observe(s)
	before := r.wrong
	if r.last.Revision != s.Revision || r.since.IsZero() {
		r.since = s.At
	}
	r.last = s
	if s.Policy.Outcome == Denied {
		r.proven, r.wrong = s.Revision, 0
	} else {
		r.wrong++
		if s.timedOut() {
			r.wrong = max(r.wrong, patience)
		}
	}
	if before < patience && r.wrong >= patience && r.proven == s.Revision {
		_, message := s.explain()
		p.log.Info("enforcement is not proven any more", "server", s.Server, "reason", message)
	}
	if before >= patience && r.wrong == 0 {
		p.log.Info("enforcement is proven again", "server", s.Server, "revision", s.Revision)
	}
}

// Proof is what the canaries show of a revision of the rules.
type Proof struct {
	// Proven tells whether every API server whose address is known enforces
	// it, Pending that one has not had the time to learn of it.
	Proven, Pending bool
	// Reason is one of v1alpha1.ConditionEnforced.
	Reason, Message string
}

// Proof returns what the canaries show of the revision.
func (p *Prober) Proof(revision string) Proof {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := sortedNames(p.records)
	switch {
	case p.problem != nil:
		return unknown("the API servers cannot be listed: " + p.problem.Error())
	case !p.asked || revision == "":
		return Proof{Pending: true, Reason: v1alpha1.ReasonCanaryUnknown, Message: "no API server has been asked yet"}
	case len(names) == 0:
		return unknown("no API server is known")
	}
	pending := false
	for _, name := range names {
		r := p.records[name]
		switch {
		case r.proven == revision && r.wrong < patience:
		case r.proven != revision && (r.last.Revision != revision || time.Since(r.since) < p.pace().CanaryGrace):
			pending = true
		default:
			reason, message := r.last.explain()
			return Proof{Reason: reason, Message: message}
		}
	}
	if pending {
		return Proof{Pending: true, Reason: v1alpha1.ReasonCanaryUnknown, Message: "not every API server has answered at the current revision of the rules yet"}
	}
	return Proof{Proven: true, Reason: v1alpha1.ReasonCanaryAnswered, Message: "every API server that is known (" + strings.Join(names, ", ") + ") sends requests to the webhook"}
}

func unknown(message string) Proof {
	return Proof{Reason: v1alpha1.ReasonCanaryUnknown, Message: message}
}

func sortedNames(records map[string]*record) []string {
	out := make([]string, 0, len(records))
	for name := range records {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
