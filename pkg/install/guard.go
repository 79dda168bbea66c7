package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
)

const (
	// armInterval is how often the live rules are compared with what the
	// constraints need when nothing has announced a change.
	armInterval = 10 * time.Second

	// catalogAge is how old what was discovered may be for a change that was
	// announced. Changes come by the hundred, and discovery is not cheap.
	catalogAge = armInterval / 2

	// An obstacle is met again after armRetry at first, and after up to
	// armRetryMax when it stays.
	armRetry    = time.Second
	armRetryMax = 5 * time.Second

	// armer is the field manager that owns the rules, and nothing else, of
	// the webhook configuration.
	armer = client.FieldOwner("fusegate-arm")
)

// Armer gives the installed webhook configuration the rules that the
// constraints need, once a backend answers. It is the only writer of rules;
// without it the configuration intercepts nothing. It runs on the leader.
type Armer struct {
	client    client.Client
	live      client.Reader
	discovery discovery.ServerResourcesInterface
	perimeter exempt.Perimeter
	ready     func() error
	needs     func() []intercept.Need
	changed   <-chan struct{}
	log       logr.Logger

	said    string // the last obstacle that was logged
	catalog catalog
}

// ArmOptions are what an Armer needs; all are required.
type ArmOptions struct {
	Client client.Client
	// Live reads past any cache.
	Live      client.Reader
	Discovery discovery.ServerResourcesInterface
	Perimeter exempt.Perimeter
	// Ready returns why Needs does not know all constraints yet. Until it
	// returns nil the live rules stay as they are, since constraints not known
	// yet may be what they are for.
	Ready func() error
	// Needs returns what the constraints want to see, and Changed receives
	// when that may have changed.
	Needs   func() []intercept.Need
	Changed <-chan struct{}
	Log     logr.Logger
}

// NewArmer returns an armer.
func NewArmer(o ArmOptions) *Armer {
	return &Armer{
		client: o.Client, live: o.Live, discovery: o.Discovery, perimeter: o.Perimeter,
		ready: o.Ready, needs: o.Needs, changed: o.Changed, log: o.Log,
	}
}

// Start arms, and keeps armed, until ctx ends.
func (a *Armer) Start(ctx context.Context) error {
	tick := time.NewTicker(armInterval)
	defer tick.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	pause := armRetry
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.changed:
			pause = armRetry
		case <-tick.C:
		case <-retry.C:
		}
		err := a.round(ctx)
		if err == nil || ctx.Err() != nil {
			a.said, pause = "", armRetry
			continue
		}
		a.say(err)
		retry.Reset(pause)
		pause = min(2*pause, armRetryMax)
	}
}

// errWaiting is wrapped by obstacles that are part of every start.
var errWaiting = errors.New("waiting")

// say logs an obstacle once, however often it is met. That somebody wrote the
// configuration meanwhile is none.
func (a *Armer) say(err error) {
	if apierrors.IsConflict(err) {
		a.log.V(1).Info("webhook configuration changed meanwhile; trying again", "reason", err.Error())
		return
	}
	if a.said == err.Error() {
		return
	}
	a.said = err.Error()
	if errors.Is(err, errWaiting) {
		a.log.Info("webhook rules wait; the live ones stay as they are", "reason", err.Error())
		return
	}
	a.log.Error(err, "webhook rules not brought up to date; the live ones stay as they are")
}

// round brings the live rules up to date. On error they stay as they are.
func (a *Armer) round(ctx context.Context) error {
	if err := a.ready(); err != nil {
		return fmt.Errorf("%w until all constraints are known: %w", errWaiting, err)
	}
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	err := a.live.Get(ctx, client.ObjectKey{Name: ConfigurationName}, live)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("ValidatingWebhookConfiguration %s is not installed: run fusegate install", ConfigurationName)
	}
	if err != nil {
		return fmt.Errorf("reading ValidatingWebhookConfiguration %s: %w", ConfigurationName, err)
	}
	if err := a.safe(live); err != nil {
		return fmt.Errorf("refusing to arm: %w", err)
	}
	want, err := a.rules(live)
	if err != nil {
		return err
	}
	if armed(live, want) {
		return nil
	}
	if err := a.backends(ctx, live); err != nil {
		return fmt.Errorf("%w for a backend to answer: %w", errWaiting, err)
	}
	return a.apply(ctx, live, want)
}

// backends asks whoever the entries send requests to whether they answer.
func (a *Armer) backends(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	var asked []admissionregistrationv1.WebhookClientConfig
	for _, w := range live.Webhooks {
		if slices.ContainsFunc(asked, func(cc admissionregistrationv1.WebhookClientConfig) bool {
			return equality.Semantic.DeepEqual(cc, w.ClientConfig)
		}) {
			continue
		}
		if err := a.answers(ctx, w.ClientConfig); err != nil {
			return fmt.Errorf("entry %s: %w", w.Name, err)
		}
		asked = append(asked, w.ClientConfig)
	}
	return nil
}

func armed(live *admissionregistrationv1.ValidatingWebhookConfiguration, want map[exempt.Entry][]admissionregistrationv1.RuleWithOperations) bool {
	for _, w := range live.Webhooks {
		if rules, ours := want[exempt.Entry(w.Name)]; ours && !intercept.Equal(w.Rules, rules) {
			return false
		}
	}
	return true
}

// errUnsafe is an entry that is not as it was rendered.
var errUnsafe = errors.New("the entry is not as Fusegate installs it: run fusegate install")

// safe checks that the live entries carry everything that makes them safe. An
// API server that does not know matchConditions drops them silently.
func (a *Armer) safe(live *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	found := 0
	for _, w := range live.Webhooks {
		e := exempt.Entry(w.Name)
		if e != exempt.PolicyEntry && e != exempt.EngineEntry {
			return fmt.Errorf("entry %s: %w: Fusegate has no such entry", w.Name, errUnsafe)
		}
		found++
		switch {
		case w.FailurePolicy == nil || *w.FailurePolicy != admissionregistrationv1.Ignore:
			return fmt.Errorf("entry %s: failurePolicy is not Ignore: %w", w.Name, errUnsafe)
		case w.TimeoutSeconds == nil || *w.TimeoutSeconds > MaxTimeoutSeconds:
			return fmt.Errorf("entry %s: timeoutSeconds is over %d: %w", w.Name, MaxTimeoutSeconds, errUnsafe)
		case !selectsNoMore(w.NamespaceSelector, a.perimeter.NamespaceSelector()):
			return fmt.Errorf("entry %s: namespaceSelector does not exclude what the perimeter does: %w", w.Name, errUnsafe)
		case !containsAll(w.MatchConditions, a.perimeter.MatchConditions(e)):
			return fmt.Errorf("entry %s: matchConditions of the perimeter are missing: %w", w.Name, errUnsafe)
		}
	}
	if found != 2 {
		return fmt.Errorf("%d entries, want 2: %w", found, errUnsafe)
	}
	return nil
}

// containsAll allows for further conditions: they only narrow.
func containsAll(have, want []admissionregistrationv1.MatchCondition) bool {
	for _, c := range want {
		if !slices.Contains(have, c) {
			return false
		}
	}
	return true
}

// apply server-side-applies the rules and nothing else. Where there are none it
// says so: somebody else's would stay if they were left out.
func (a *Armer) apply(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, want map[exempt.Entry][]admissionregistrationv1.RuleWithOperations) error {
	entries := make([]any, 0, len(live.Webhooks))
	for _, w := range live.Webhooks {
		list, err := toList(want[exempt.Entry(w.Name)])
		if err != nil {
			return err
		}
		entries = append(entries, map[string]any{"name": w.Name, "rules": list})
	}
	patch := &unstructured.Unstructured{Object: map[string]any{"webhooks": entries}}
	patch.SetGroupVersionKind(admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"))
	patch.SetName(live.Name)
	patch.SetUID(live.UID)
	patch.SetResourceVersion(live.ResourceVersion)
	if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(patch), armer, client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the rules of ValidatingWebhookConfiguration %s: %w", live.Name, err)
	}
	a.log.Info("webhook armed", "rules", len(want[exempt.PolicyEntry]))
	return nil
}
