package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/config"
)

// config is the effective configuration: that of the ConfigMap, which install
// applies with the plan. Where that cannot be had it is what it last was. It is
// another version's if that one has rendered it, so that what this process
// would render for it is not what is to be.
func (g *Guard) config(ctx context.Context) (effective config.Config, another bool) {
	cm := &corev1.ConfigMap{}
	ns := g.Config.WithDefaults().Namespace
	err := g.Live.Get(ctx, client.ObjectKey{Namespace: ns, Name: ConfigMapName}, cm)
	if apierrors.IsNotFound(err) {
		g.read = settings{}
		return g.last, false
	}
	if now := editionOf(cm); err == nil && now == g.read.edition {
		return g.read.config, g.read.another
	}
	g.read = settings{}
	var c config.Config
	if err == nil {
		c, err = config.Parse([]byte(cm.Data[ConfigKey]))
	}
	if err == nil {
		c = c.WithDefaults()
		err = c.ValidateInstalled()
	}
	if err != nil {
		g.tell(ConfigMapName, true, "ConfigInvalid", fmt.Sprintf("ConfigMap %s/%s cannot be used; what was read last stays in force: %v", ns, ConfigMapName, err))
		// A later version may write what this one cannot read.
		return g.last, cm.Annotations[renderingAnnotation] != "" && !g.rendered(cm, g.last)
	}
	g.tell(ConfigMapName, false, "", "")
	g.last = c
	g.read = settings{editionOf(cm), c, !g.rendered(cm, c)}
	return c, g.read.another
}

// rendered tells whether this version renders for the configuration what was
// installed for it, and says so once if not.
func (g *Guard) rendered(cm *corev1.ConfigMap, c config.Config) bool {
	perimeter, err := c.Perimeter()
	installed, known := cm.Annotations[renderingAnnotation]
	if err != nil || !known || installed == rendering(webhookConfiguration(c, perimeter)) {
		g.tell(renderingAnnotation, false, "", "")
		return true
	}
	g.tell(renderingAnnotation, true, "AnotherVersion", "the webhook configuration was rendered by another version of Fusegate; this one does not put changes of it back")
	return false
}

// errAnother is an entry that another version installed and that is not
// evidently safe.
var errAnother = errors.New("the entry was rendered by another version of Fusegate")

// harmless checks of entries that another version rendered what holds for every
// version.
func harmless(live *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	for _, name := range installedEntries {
		w := entryOf(live, name)
		switch {
		case w == nil:
			return fmt.Errorf("entry %s: %w: it is missing", name, errAnother)
		case ptr.Deref(w.FailurePolicy, admissionregistrationv1.Fail) != admissionregistrationv1.Ignore:
			return fmt.Errorf("entry %s: %w: failurePolicy is not Ignore", name, errAnother)
		case ptr.Deref(w.TimeoutSeconds, 10) > config.MaxTimeoutSeconds:
			return fmt.Errorf("entry %s: %w: timeoutSeconds is over %d", name, errAnother, config.MaxTimeoutSeconds)
		case w.NamespaceSelector == nil || len(w.NamespaceSelector.MatchExpressions) == 0 || len(w.MatchConditions) == 0:
			return fmt.Errorf("entry %s: %w: it excludes nothing", name, errAnother)
		}
	}
	return nil
}

// errContested says that somebody keeps undoing what makes an entry safe.
var errContested = errors.New("the webhook configuration is contested")

// mend puts back what somebody changed of what Fusegate renders, and returns
// the configuration as it is then.
func (g *Guard) mend(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, config config.Config) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	g.foreign(live)
	perimeter, err := config.Perimeter()
	if err != nil {
		return nil, err
	}
	found := drift(live, webhookConfiguration(config, perimeter))
	if len(found) == 0 {
		return live, nil
	}
	culprit := blame(live, found)
	what := describeDrift(found)
	if wait := g.fights.wait(culprit+": "+what, time.Now()); wait > 0 {
		return nil, g.contested(ctx, live, culprit, what, wait)
	}
	if err := g.putBack(ctx, live, config); err != nil {
		return nil, errors.Join(err, g.disarm(ctx, live))
	}
	for _, d := range found {
		g.metrics.restores.WithLabelValues(d.Entry, d.Field).Inc()
	}
	message := fmt.Sprintf("%s changed %s; it was put back", culprit, what)
	g.Log.Info("webhook configuration put back", "manager", culprit, "fields", what)
	g.Announce(true, "Restored", message)
	return g.reread(ctx, config)
}

// contested disarms the webhook, since what makes it safe does not last, and
// says so. The next attempt is after wait at the earliest.
func (g *Guard) contested(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, culprit, what string, wait time.Duration) error {
	err := fmt.Errorf("%w: %s keeps changing %s; until it is put back for good the webhook is not armed", errContested, culprit, what)
	g.truce = time.Now().Add(wait)
	g.tell("contested", true, v1alpha1.ReasonContested, err.Error())
	return errors.Join(err, g.disarm(ctx, live))
}

// reread reads the configuration after it was mended, and returns an error if
// it is still not as rendered: an API server that does not know a field drops
// it silently.
func (g *Guard) reread(ctx context.Context, config config.Config) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	live, err := g.get(ctx)
	if err != nil {
		return nil, err
	}
	perimeter, err := config.Perimeter()
	if err != nil {
		return nil, err
	}
	if left := drift(live, webhookConfiguration(config, perimeter)); len(left) > 0 {
		return nil, g.contested(ctx, live, blame(live, left), describeDrift(left), 0)
	}
	return live, nil
}

// putBack applies what was rendered, as the installation does.
func (g *Guard) putBack(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, config config.Config) error {
	plan, err := Render(config)
	if err != nil {
		return err
	}
	want := plan.webhookObject().DeepCopy()
	want.SetUID(live.UID)
	want.SetResourceVersion(live.ResourceVersion) // a leader that was replaced must not undo its successor's work
	err = g.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(FieldManager), client.ForceOwnership)
	if apierrors.IsInvalid(err) {
		// Fields of others stand beside ours where only one can be.
		return g.overwrite(ctx, live, config)
	}
	if err != nil {
		return fmt.Errorf("putting ValidatingWebhookConfiguration %s back: %w", live.Name, err)
	}
	return nil
}

// overwrite sets whom the entries send requests to by an update, which takes
// away what others have set beside it.
func (g *Guard) overwrite(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, config config.Config) error {
	perimeter, err := config.Perimeter()
	if err != nil {
		return err
	}
	next := live.DeepCopy()
	for _, w := range webhookConfiguration(config, perimeter).Webhooks {
		for i := range next.Webhooks {
			if next.Webhooks[i].Name != w.Name {
				continue
			}
			bundle := next.Webhooks[i].ClientConfig.CABundle
			next.Webhooks[i].ClientConfig = w.ClientConfig
			if len(w.ClientConfig.CABundle) == 0 && config.InCluster() {
				next.Webhooks[i].ClientConfig.CABundle = bundle
			}
		}
	}
	if err := g.Client.Update(ctx, next, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("overwriting ValidatingWebhookConfiguration %s: %w", live.Name, err)
	}
	return nil
}

// foreign announces entries that Fusegate does not have. They are another
// webhook's, whatever configuration they are in, and stay.
func (g *Guard) foreign(live *admissionregistrationv1.ValidatingWebhookConfiguration) {
	var names []string
	for _, w := range live.Webhooks {
		if !installed(w.Name) {
			names = append(names, w.Name)
		}
	}
	if len(names) == 0 {
		g.tell("foreign", false, "", "")
		return
	}
	g.tell("foreign", true, "ForeignEntry", "entries that are not Fusegate's are in its webhook configuration, and are not guarded: "+strings.Join(names, ", "))
}

// webhookObject is the webhook configuration of a plan: its last object.
func (p Plan) webhookObject() *unstructured.Unstructured { return p.Objects[len(p.Objects)-1] }
