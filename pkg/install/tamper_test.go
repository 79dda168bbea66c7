package install_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/timing"
)

// within is how soon what somebody changed must be undone.
const within = 5 * time.Second

type entries = []admissionregistrationv1.ValidatingWebhook

// TestTampering changes one thing that keeps an entry safe, or that has it
// enforce, at a time, as somebody else, and sees it put back.
func TestTampering(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, patience, "configmaps")
	pristine := live(t, a.client)
	for name, edit := range map[string]func(ws entries) entries{
		"Fail":           func(ws entries) entries { ws[0].FailurePolicy = ptr.To(admissionregistrationv1.Fail); return ws },
		"Timeout":        func(ws entries) entries { ws[1].TimeoutSeconds = ptr.To[int32](10); return ws },
		"ShorterTimeout": func(ws entries) entries { ws[0].TimeoutSeconds = ptr.To[int32](1); return ws },
		"NoSelector":     func(ws entries) entries { ws[0].NamespaceSelector = nil; return ws },
		"NoCondition":    func(ws entries) entries { ws[0].MatchConditions = ws[0].MatchConditions[1:]; return ws },
		"OtherCondition": func(ws entries) entries { ws[0].MatchConditions[0].Expression = "true"; return ws },
		"NoRevision": func(ws entries) entries {
			ws[0].MatchConditions = ws[0].MatchConditions[:len(ws[0].MatchConditions)-1]
			return ws
		},
		"SideEffects": func(ws entries) entries {
			ws[0].SideEffects = ptr.To(admissionregistrationv1.SideEffectClassNoneOnDryRun)
			return ws
		},
		"MatchPolicy":  func(ws entries) entries { ws[0].MatchPolicy = ptr.To(admissionregistrationv1.Exact); return ws },
		"Empty":        func(entries) entries { return nil },
		"EntryRemoved": func(ws entries) entries { return ws[1:] },
		"ProbeRemoved": func(ws entries) entries { return ws[:2] },
		"NoRules":      func(ws entries) entries { ws[0].Rules = nil; return ws },
		"MoreRules": func(ws entries) entries {
			ws[2].Rules = append(ws[2].Rules, ws[1].Rules...)
			return ws
		},
		"OtherURL": func(ws entries) entries {
			ws[0].ClientConfig.URL = ptr.To("https://127.0.0.1:1/elsewhere")
			return ws
		},
		"OtherService": func(ws entries) entries {
			ws[0].ClientConfig = admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "default", Name: "elsewhere"},
			}
			return ws
		},
		"OtherCA": func(ws entries) entries { ws[0].ClientConfig.CABundle = fixedCA(t); return ws },
	} {
		t.Run(name, func(t *testing.T) {
			seen := len(a.announced())
			tamper(t, a, edit)
			start := time.Now()
			awaitSame(t, a.client, pristine)
			if took := time.Since(start); took > within {
				t.Errorf("put back after %v, want %v", took, within)
			}
			want := `Restored: "meddler" changed`
			if slices.Contains([]string{"NoCondition", "Empty", "EntryRemoved", "ProbeRemoved"}, name) {
				want = "Restored: an unknown writer changed" // who removes owns nothing
			}
			rules := slices.Contains([]string{"NoRules", "MoreRules", "NoRevision"}, name)
			if rules {
				return
			}
			await(t.Context(), t, "an Event that says "+want, func(context.Context) (bool, error) {
				return strings.Contains(strings.Join(a.announced()[seen:], "\n"), want), nil
			})
		})
	}
}

func tamper(t *testing.T, a *armory, edit func(entries) entries) {
	t.Helper()
	now := live(t, a.client)
	now.Webhooks = edit(now.Webhooks)
	if err := a.client.Update(t.Context(), now, client.FieldOwner("meddler")); err != nil {
		t.Fatal(err)
	}
}

// awaitSame waits until the configuration is what it was, in any order.
func awaitSame(t *testing.T, c client.Client, want *admissionregistrationv1.ValidatingWebhookConfiguration) {
	t.Helper()
	var diff string
	await(t.Context(), t, "the configuration to be put back", func(context.Context) (bool, error) {
		diff = cmp.Diff(byName(want), byName(live(t, c)))
		return diff == "", nil
	})
}

func byName(c *admissionregistrationv1.ValidatingWebhookConfiguration) map[string]admissionregistrationv1.ValidatingWebhook {
	out := map[string]admissionregistrationv1.ValidatingWebhook{}
	for _, w := range c.Webhooks {
		w = *w.DeepCopy()
		slices.SortFunc(w.MatchConditions, func(a, b admissionregistrationv1.MatchCondition) int { return strings.Compare(a.Name, b.Name) })
		out[w.Name] = w
	}
	return out
}

// TestNarrowing has somebody add what keeps requests from the webhook. It stays,
// and is reported.
func TestNarrowing(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, patience, "configmaps")
	awaitInterception(t, a, install.Interception{Intercepted: true}, nil)
	for name, tc := range map[string]struct {
		fields map[string]any
		reason string
		want   []string
	}{
		"Condition": {
			fields: map[string]any{"matchConditions": []any{map[string]any{"name": "x", "expression": "false"}}},
			reason: v1alpha1.ReasonNarrowedBy, want: []string{`matchConditions[name="x"]`, `"meddler"`},
		},
		"OneUser": {
			fields: map[string]any{"matchConditions": []any{map[string]any{"name": "y", "expression": `request.userInfo.username != "mallory"`}}},
			reason: v1alpha1.ReasonNarrowedBy, want: []string{`matchConditions[name="y"]`, `"meddler"`, "mallory"},
		},
		"ObjectSelector": {
			fields: map[string]any{"objectSelector": map[string]any{"matchLabels": map[string]any{"judge": "me"}}},
			reason: v1alpha1.ReasonNarrowedBy, want: []string{"objectSelector", `"meddler"`},
		},
		"Fuse": {
			fields: map[string]any{"matchConditions": []any{map[string]any{"name": "fuse-open", "expression": "false"}}},
			reason: v1alpha1.ReasonFuseOpen,
		},
	} {
		t.Run(name, func(t *testing.T) {
			serverSide(t, a.client, "meddler", entry(exempt.PolicyEntry, tc.fields))
			start := time.Now()
			awaitInterception(t, a, install.Interception{Reason: tc.reason}, tc.want)
			if took := time.Since(start); took > 2*within {
				t.Errorf("reported after %v, want %v", took, 2*within)
			}
			if tc.reason == v1alpha1.ReasonNarrowedBy && !strings.Contains(strings.Join(a.announced(), "\n"), "NarrowedBy: 1 constraints") {
				t.Errorf("got Events %q, want one that says what is narrowed", a.announced())
			}
			serverSide(t, a.client, "meddler", webhookConfiguration())
			awaitInterception(t, a, install.Interception{Intercepted: true}, nil)
		})
	}
}

// TestAnotherVersion lets a successor install its own rendering while this
// version still leads: it is not taken for tampering, whether this version can read
// the successor's settings or not.
func TestAnotherVersion(t *testing.T) {
	t.Run("Readable", func(t *testing.T) { testAnotherVersion(t, "") })
	t.Run("Unreadable", func(t *testing.T) { testAnotherVersion(t, "apiVersion: config.fusegate.dev/v9\n") })
}

// testAnotherVersion has the successor write these settings, or those that are
// there.
func testAnotherVersion(t *testing.T, settings string) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, patience, "configmaps")
	annotate := func(rendering, settings string) {
		cm := &corev1.ConfigMap{}
		if err := a.client.Get(t.Context(), client.ObjectKey{Namespace: exempt.DefaultNamespace, Name: install.ConfigMapName}, cm); err != nil {
			t.Fatal(err)
		}
		cm.Annotations["fusegate.dev/rendering"] = rendering
		if settings != "" {
			cm.Data[install.ConfigKey] = settings
		}
		if err := a.client.Update(t.Context(), cm); err != nil {
			t.Fatal(err)
		}
	}
	cm := &corev1.ConfigMap{}
	if err := a.client.Get(t.Context(), client.ObjectKey{Namespace: exempt.DefaultNamespace, Name: install.ConfigMapName}, cm); err != nil {
		t.Fatal(err)
	}
	ours, before := cm.Annotations["fusegate.dev/rendering"], cm.Data[install.ConfigKey]
	t.Cleanup(func() { // its fields are the test's now, and the namespace outlives it
		if err := a.client.Delete(context.Background(), cm); err != nil {
			t.Error(err)
		}
	})
	annotate("another", settings)
	tamper(t, a, func(ws entries) entries { ws[0].MatchConditions[0].Expression = "true"; return ws })
	a.set(func() { a.needs = need(t, "ConfigMap.", "Deployment.apps") })
	a.rounds(t)
	awaitArmed(t, a.client, patience, "configmaps deployments")
	if got := live(t, a.client).Webhooks[0].MatchConditions[0].Expression; got != "true" {
		t.Errorf("the successor's condition was changed to %q", got)
	}
	if !strings.Contains(strings.Join(a.announced(), "\n"), "AnotherVersion") {
		t.Errorf("got Events %q, want one that says so", a.announced())
	}
	tamper(t, a, func(ws entries) entries { ws[0].FailurePolicy = ptr.To(admissionregistrationv1.Fail); return ws })
	await(t.Context(), t, "the entry to be refused", func(context.Context) (bool, error) {
		return a.guard.State().Reason == v1alpha1.ReasonNotArmed, nil
	})
	annotate(ours, before)
	await(t.Context(), t, "its own rendering to be put back", func(context.Context) (bool, error) {
		w := live(t, a.client).Webhooks[0]
		return *w.FailurePolicy == admissionregistrationv1.Ignore && w.MatchConditions[0].Expression != "true", nil
	})
}

// TestProviderSelector adds the requirement that AKS adds to every webhook. It
// matters where a namespace has that label.
func TestProviderSelector(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, patience, "configmaps")
	tamper(t, a, func(ws entries) entries {
		ws[0].NamespaceSelector.MatchExpressions = append(ws[0].NamespaceSelector.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: "control-plane", Operator: metav1.LabelSelectorOpDoesNotExist})
		return ws
	})
	a.rounds(t)
	awaitInterception(t, a, install.Interception{Intercepted: true}, nil)
	if n := len(live(t, a.client).Webhooks[0].NamespaceSelector.MatchExpressions); n != 2 {
		t.Errorf("got %d requirements, want the provider's to stay", n)
	}
	escaped := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "escaped", Labels: map[string]string{"control-plane": "true"}}}
	if err := a.client.Create(t.Context(), escaped); err != nil {
		t.Fatal(err)
	}
	awaitInterception(t, a, install.Interception{Reason: v1alpha1.ReasonNarrowedBy}, []string{"namespace escaped", `"meddler"`})
	if err := a.client.Delete(t.Context(), escaped); err != nil {
		t.Fatal(err)
	}
	awaitInterception(t, a, install.Interception{Intercepted: true}, nil)
}

// awaitInterception waits until the only constraint is in that state, with a
// message that holds all of parts.
func awaitInterception(t *testing.T, a *armory, want install.Interception, parts []string) {
	t.Helper()
	var got install.Interception
	err := fmt.Errorf("not yet")
	defer func() {
		if t.Failed() {
			t.Logf("got %+v (%v)", got, err)
		}
	}()
	await(t.Context(), t, fmt.Sprintf("the state %+v", want), func(context.Context) (bool, error) {
		got = a.guard.State().Of(subject(0))
		return got.Intercepted == want.Intercepted && got.Reason == want.Reason, nil
	})
	for _, part := range parts {
		if !strings.Contains(got.Message, part) {
			t.Errorf("got message %q, want one with %q", got.Message, part)
		}
	}
}

// TestFight has somebody undo what the guard does, again and again: it is met
// after ever longer pauses, and meanwhile the webhook is not armed.
func TestFight(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, patience, "configmaps")
	deadline := time.Now().Add(15 * time.Second)
	fought := 0
	contested := false
	for time.Now().Before(deadline) && !(contested && fought > 2) {
		now := live(t, a.client)
		if *now.Webhooks[0].FailurePolicy == admissionregistrationv1.Ignore {
			now.Webhooks[0].FailurePolicy = ptr.To(admissionregistrationv1.Fail)
			if a.client.Update(t.Context(), now, client.FieldOwner("meddler")) == nil {
				fought++
			}
		}
		if a.guard.State().Reason == v1alpha1.ReasonContested && len(live(t, a.client).Webhooks[0].Rules) == 0 {
			contested = true
		}
	}
	if !contested {
		t.Error("the webhook was never disarmed while somebody had it fail closed")
	}
	if fought > 10 {
		t.Errorf("met %d times, want a pause that grows", fought)
	}
	if !strings.Contains(strings.Join(a.announced(), "\n"), `Contested: the webhook configuration is contested: "meddler" keeps changing`) {
		t.Errorf("got Events %q, want one that names the manager", a.announced())
	}
}

// TestDeletedStaysDeleted checks that the configuration can be removed in an
// emergency while the guard is at work.
func TestDeletedStaysDeleted(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, patience, "configmaps")
	u := webhookConfiguration()
	if err := a.client.Delete(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	a.rounds(t)
	if exists(t, a.client, webhookConfiguration()) {
		t.Error("it was made again")
	}
	if !strings.Contains(strings.Join(a.announced(), "\n"), "NotInstalled") {
		t.Errorf("got Events %q, want one that says that nothing is enforced", a.announced())
	}
}

// TestNotInstalled changes constraints while there is no configuration: nobody
// asks for it each time, and once it is there it is armed for them at once.
func TestNotInstalled(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs, a.timings = need(t, "ConfigMap."), timing.Production() })
	awaitArmed(t, a.client, patience, "configmaps")
	again := live(t, a.client)
	if err := a.client.Delete(t.Context(), webhookConfiguration()); err != nil {
		t.Fatal(err)
	}
	await(t.Context(), t, "the guard to miss it", func(context.Context) (bool, error) {
		return strings.Contains(strings.Join(a.announced(), "\n"), "NotInstalled"), nil
	})
	a.set(func() { a.needs = need(t, "Secret.") })
	const changes = 60
	before := a.read.Load()
	for range changes / 3 {
		a.rounds(t)
	}
	if got := a.read.Load() - before; got > changes/10 {
		t.Errorf("what is not there was asked for %d times on %d changes", got, changes)
	}
	again.ResourceVersion, again.UID = "", ""
	if err := a.client.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	awaitArmed(t, a.client, patience, "secrets")
}

// TestUnchanged has a guard look on its own account: as long as nothing has
// changed it does not go through the constraints again.
func TestUnchanged(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, patience, "configmaps")
	awaitInterception(t, a, install.Interception{Intercepted: true}, nil)
	// Once it looks again, it has counted what it saw the time before.
	looks := func(n int64) (counted int64) {
		t.Helper()
		from := a.looked.Load()
		await(t.Context(), t, "another look", func(context.Context) (bool, error) { return a.looked.Load() >= from+n, nil })
		return a.counted.Load()
	}
	before := looks(2) // the guard has seen what it has written itself
	if after := looks(2); after != before {
		t.Errorf("%d looks at the constraints without a change", after-before)
	}
	a.rounds(t)
	if after := a.counted.Load(); after == before {
		t.Error("no look at the constraints although they have changed")
	}
}
