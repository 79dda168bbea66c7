package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
)

// armer is the field manager that owns the rules and the revision's condition,
// and nothing else, of the webhook configuration.
const armer = client.FieldOwner("fusegate-arm")

// rules are those of every entry.
type rules map[exempt.Entry][]admissionregistrationv1.RuleWithOperations

// revision identifies the rules and the perimeter that goes with them.
func (r rules) revision(p exempt.Perimeter) (string, error) {
	text, err := json.Marshal([]any{r[exempt.PolicyEntry], p.NamespaceSelector(), p.MatchConditions(exempt.PolicyEntry)})
	if err != nil {
		return "", fmt.Errorf("computing the revision of the rules: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// arm brings the live rules up to date and returns the configuration as it is
// then. On error they stay as they are.
func (g *Guard) arm(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, config config.Config) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	perimeter, err := config.Perimeter()
	if err != nil {
		return nil, err
	}
	want, err := g.rules(live)
	if err != nil {
		return nil, err
	}
	revision, err := want.revision(perimeter)
	if err != nil {
		return nil, err
	}
	if armed(live, want, revision) {
		return live, nil
	}
	if err := g.backends(ctx, live); err != nil {
		return nil, fmt.Errorf("%w for a backend to answer: %w", errWaiting, err)
	}
	if err := g.apply(ctx, live, want, revision); err != nil {
		return nil, err
	}
	g.Log.Info("webhook armed", "rules", len(want[exempt.PolicyEntry]), "revision", revision)
	return g.get(ctx)
}

// backends asks whoever the entries send requests to whether they answer.
func (g *Guard) backends(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	var asked []admissionregistrationv1.WebhookClientConfig
	for _, w := range live.Webhooks {
		if !installed(w.Name) || slices.ContainsFunc(asked, func(cc admissionregistrationv1.WebhookClientConfig) bool {
			return equality.Semantic.DeepEqual(cc, w.ClientConfig)
		}) {
			continue
		}
		if err := g.answers(ctx, w.ClientConfig); err != nil {
			return fmt.Errorf("entry %s: %w", w.Name, err)
		}
		asked = append(asked, w.ClientConfig)
	}
	return nil
}

// armed tells whether the live entries have the wanted rules at the revision.
func armed(live *admissionregistrationv1.ValidatingWebhookConfiguration, want rules, revision string) bool {
	for name, rules := range want {
		w := entryOf(live, name)
		if w == nil || !intercept.Equal(w.Rules, rules) {
			return false
		}
		if name == exempt.PolicyEntry && !slices.Contains(w.MatchConditions, exempt.RevisionCondition(revision)) {
			return false
		}
	}
	return true
}

// entryOf is the live entry of that name, nil if there is none.
func entryOf(live *admissionregistrationv1.ValidatingWebhookConfiguration, name exempt.Entry) *admissionregistrationv1.ValidatingWebhook {
	at := slices.IndexFunc(live.Webhooks, func(w admissionregistrationv1.ValidatingWebhook) bool { return w.Name == string(name) })
	if at < 0 {
		return nil
	}
	return &live.Webhooks[at]
}

// apply server-side-applies the rules, the revision's condition and nothing
// else. Where there are no rules it says so: somebody else's would stay if they
// were left out.
func (g *Guard) apply(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, want rules, revision string) error {
	var entries []any
	for _, name := range installedEntries {
		if entryOf(live, name) == nil {
			continue
		}
		list, err := toList(want[name])
		if err != nil {
			return err
		}
		entry := map[string]any{"name": string(name), "rules": list}
		if name == exempt.PolicyEntry {
			c := exempt.RevisionCondition(revision)
			entry["matchConditions"] = []any{map[string]any{"name": c.Name, "expression": c.Expression}}
		}
		entries = append(entries, entry)
	}
	patch := &unstructured.Unstructured{Object: map[string]any{"webhooks": entries}}
	patch.SetGroupVersionKind(admissionregistrationv1.SchemeGroupVersion.WithKind(webhookKind))
	patch.SetName(live.Name)
	patch.SetUID(live.UID)
	patch.SetResourceVersion(live.ResourceVersion)
	if err := g.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(patch), armer, client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the rules of ValidatingWebhookConfiguration %s: %w", live.Name, err)
	}
	return nil
}

// disarm takes all rules away, so that an entry that is not safe does no harm.
func (g *Guard) disarm(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	none := rules{}
	if armed(live, rules{exempt.PolicyEntry: nil, exempt.EngineEntry: nil, exempt.ProbeEntry: nil}, disarmedRevision) {
		return nil
	}
	g.Log.Info("webhook disarmed")
	return g.apply(ctx, live, none, disarmedRevision)
}

// disarmedRevision is that of no rules. No canary asks for it.
const disarmedRevision = "disarmed"
