package install

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/timing"
)

// Guard keeps the installed webhook configuration as it was rendered, with the
// rules that the constraints need once a backend answers. It is the only writer
// of rules; without it the configuration intercepts nothing. It runs on the
// leader.
//
// What Fusegate rendered and somebody changed is put back. What somebody added
// stays: it can only narrow, and shows in the State. A configuration that was
// deleted stays deleted: that is how enforcement is switched off in an
// emergency.
type Guard struct {
	GuardOptions
	metrics *guardMetrics
	state   atomic.Pointer[State]

	// The fields below belong to the loop.
	said    string // the last obstacle that was logged
	catalog catalog
	left    map[Identity]bool // whose rules there is no room for
	last    config.Config     // the configuration as last read
	fights  fights
	truce   time.Time // when the next attempt in a fight is due
	samples samples
	told    map[string]string // what was announced, by what it is about
	read    settings
	settled settled
}

// GuardOptions are what a Guard needs; all but Touched, Renamed, Announce, Stated
// and Metrics are required.
type GuardOptions struct {
	Client client.Client
	// Live reads past any cache.
	Live      client.Reader
	Discovery discovery.ServerResourcesInterface
	// Config is what the process was started with. What is rendered comes from
	// the ConfigMap in its Namespace, where there is one.
	Config config.Config
	// Ready returns why Subjects does not know all constraints yet. Until it
	// returns nil the live rules stay as they are, since constraints not known
	// yet may be what they are for.
	Ready func() error
	// Subjects returns the constraints, and Changed receives when they may have
	// changed; Touched does when the live configuration may have.
	Subjects         func() []match.Need
	Changed, Touched <-chan struct{}
	// Namespaces lists the cluster's, from a cache, and Renamed counts how often
	// names or labels of them have changed. Without it they are compared at
	// every look.
	Namespaces func(ctx context.Context) ([]intercept.Namespace, error)
	Renamed    func() uint64
	// Timings are how often it looks and tries again.
	Timings timing.Timings
	// Announce emits an Event about the webhook configuration.
	Announce func(warning bool, reason, message string)
	// Stated is told that State returns another one. It must not block.
	Stated  func()
	Metrics prometheus.Registerer
	Log     logr.Logger
}

// NewGuard returns a guard. The error is that of registering its metrics.
func NewGuard(o GuardOptions) (*Guard, error) {
	if o.Announce == nil {
		o.Announce = func(bool, string, string) {}
	}
	if o.Stated == nil {
		o.Stated = func() {}
	}
	o.Timings = o.Timings.Filled()
	m, err := newGuardMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("registering the guard's metrics: %w", err)
	}
	g := &Guard{GuardOptions: o, metrics: m, last: o.Config.WithDefaults(), fights: fights{}, told: map[string]string{}}
	g.state.Store(&State{Pending: true, Reason: v1alpha1.ReasonNotArmed, Message: "the webhook configuration has not been looked at yet"})
	return g, nil
}

// Start guards until ctx ends.
func (g *Guard) Start(ctx context.Context) error {
	tick := time.NewTicker(g.Timings.Guard)
	defer tick.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	pause, absent := g.Timings.GuardRetry, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.Changed:
			if absent && g.Touched != nil {
				continue // they are looked at when there is something to arm
			}
			g.settled, pause = settled{}, g.Timings.GuardRetry
		case <-g.Touched:
			pause = g.Timings.GuardRetry
		case <-tick.C:
			if pause > g.Timings.GuardRetryMax {
				continue // there is nothing to look at
			}
		case <-retry.C:
		}
		err := g.round(ctx)
		absent = errors.Is(err, errAbsent)
		if err == nil || ctx.Err() != nil {
			g.said, pause = "", g.Timings.GuardRetry
			continue
		}
		g.settled = settled{}
		g.say(err)
		retry.Reset(g.until(pause))
		pause = min(2*pause, g.longest(err))
	}
}

// longest is the longest pause for an obstacle.
func (g *Guard) longest(err error) time.Duration {
	if errors.Is(err, errAbsent) {
		return g.Timings.GuardAbsent
	}
	return g.Timings.GuardRetryMax
}

// until is when to try again: after pause, or sooner if a truce ends.
func (g *Guard) until(pause time.Duration) time.Duration {
	if rest := time.Until(g.truce); rest > 0 {
		return min(pause, rest+time.Millisecond)
	}
	return pause
}

// errAbsent says that there is nothing to guard.
var errAbsent = errors.New("is not installed: run fusegate install")

// errWaiting is wrapped by obstacles that are part of every start.
var errWaiting = errors.New("waiting")

// say logs an obstacle once, however often it is met. That somebody wrote the
// configuration meanwhile is none.
func (g *Guard) say(err error) {
	if apierrors.IsConflict(err) {
		g.Log.V(1).Info("webhook configuration changed meanwhile; trying again", "reason", err.Error())
		return
	}
	if g.said == err.Error() {
		return
	}
	g.said = err.Error()
	if errors.Is(err, errWaiting) {
		g.Log.Info("webhook rules wait; the live ones stay as they are", "reason", err.Error())
		return
	}
	g.Log.Error(err, "webhook configuration not brought up to date")
}

// round looks at the live configuration once, mends it and brings its rules up
// to date. What it found is in the State, also when it fails.
func (g *Guard) round(ctx context.Context) error {
	live, err := g.get(ctx)
	if err != nil {
		return g.unarmed(err)
	}
	config, another := g.config(ctx)
	basis := g.basis(live)
	if g.unchanged(basis) {
		return nil
	}
	if another {
		err = harmless(live)
	} else {
		live, err = g.mend(ctx, live, config)
	}
	if err != nil {
		return g.unarmed(err)
	}
	if err := g.Ready(); err != nil {
		err = fmt.Errorf("%w until all constraints are known: %w", errWaiting, err)
		g.become(&State{Pending: true, Reason: v1alpha1.ReasonNotArmed, Message: err.Error()})
		return err
	}
	if live, err = g.arm(ctx, live, config); err != nil {
		return g.unarmed(err)
	}
	if err := g.survey(ctx, live, config); err != nil {
		return err
	}
	basis.live = editionOf(live)
	g.settled = settled{basis: basis, catalog: g.catalog.changes, at: time.Now()}
	return nil
}

func (g *Guard) get(ctx context.Context) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	err := g.Live.Get(ctx, client.ObjectKey{Name: ConfigurationName}, live)
	if apierrors.IsNotFound(err) {
		g.tell(ConfigurationName, true, "NotInstalled", "ValidatingWebhookConfiguration "+ConfigurationName+" is not there: nothing is enforced")
		return nil, fmt.Errorf("ValidatingWebhookConfiguration %s %w", ConfigurationName, errAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("reading ValidatingWebhookConfiguration %s: %w", ConfigurationName, err)
	}
	g.tell(ConfigurationName, false, "", "")
	return live, nil
}

// tell announces a state of affairs once, until it is another. The empty
// message is the normal state.
func (g *Guard) tell(about string, warning bool, reason, message string) {
	if g.told[about] == message {
		return
	}
	g.told[about] = message
	if message != "" {
		g.Announce(warning, reason, message)
	}
}
