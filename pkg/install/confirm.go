package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// minimumVersion is where matchConditions became stable. Older API servers
// may drop them silently, and with them what keeps the control plane out of
// reach of the webhook.
var minimumVersion = version.MustParseGeneric("1.30.0")

// UnsafeError says that the API server did not keep the webhook configuration
// as it was applied.
type UnsafeError struct {
	// Problems name the entry and the field.
	Problems []string
	// Removed tells whether the configuration is gone again.
	Removed bool
}

// Error names every problem and what to do.
func (e *UnsafeError) Error() string {
	what := "it was removed again"
	if !e.Removed {
		what = "remove it by hand: kubectl delete validatingwebhookconfiguration " + ConfigurationName
	}
	return fmt.Sprintf("the API server did not keep ValidatingWebhookConfiguration %s as it was applied, so that it is not safe to have: %s; %s. "+
		"Fusegate needs Kubernetes %s or later, and nobody who rewrites its webhook configuration",
		ConfigurationName, strings.Join(e.Problems, ", "), what, minimumVersion)
}

// checkVersion refuses API servers that are too old.
func checkVersion(d discovery.ServerVersionInterface) error {
	if d == nil {
		return nil
	}
	info, err := d.ServerVersion()
	if err != nil {
		return fmt.Errorf("asking the API server for its version: %w", err)
	}
	v, err := version.ParseGeneric(info.GitVersion)
	if err != nil {
		return fmt.Errorf("reading the version %q of the API server: %w", info.GitVersion, err)
	}
	if v.LessThan(minimumVersion) {
		return fmt.Errorf("the API server is Kubernetes %s: Fusegate needs %s or later, where matchConditions are stable; "+
			"without them its webhook would be in the way of the control plane; upgrade the cluster first", info.GitVersion, minimumVersion)
	}
	return nil
}

// confirm reads the webhook configuration back and removes it if it is not
// safe. It tries to remove it even when ctx has ended meanwhile.
func (a *applier) confirm(ctx context.Context) error {
	perimeter, err := a.plan.Config.Perimeter()
	if err != nil {
		return err
	}
	want := webhookConfiguration(a.plan.Config, perimeter)
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := a.client.Get(ctx, client.ObjectKeyFromObject(want), live); err != nil {
		return fmt.Errorf("reading ValidatingWebhookConfiguration %s back: %w", want.Name, err)
	}
	found := lost(live, want)
	if len(found) == 0 {
		return nil
	}
	unsafe := &UnsafeError{Problems: found}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	if err := a.client.Delete(ctx, live, client.Preconditions{UID: &live.UID}); client.IgnoreNotFound(err) != nil {
		return errors.Join(unsafe, fmt.Errorf("removing ValidatingWebhookConfiguration %s: %w", want.Name, err))
	}
	unsafe.Removed = true
	return unsafe
}

// lost lists what of the wanted configuration is missing in the live one. What
// others added is not its business, as long as it only narrows.
func lost(live, want *admissionregistrationv1.ValidatingWebhookConfiguration) []string {
	var out []string
	for _, w := range want.Webhooks {
		at := slices.IndexFunc(live.Webhooks, func(l admissionregistrationv1.ValidatingWebhook) bool { return l.Name == w.Name })
		if at < 0 {
			out = append(out, w.Name+": the entry is missing")
			continue
		}
		for _, field := range lostFields(live.Webhooks[at], w) {
			out = append(out, w.Name+": "+field)
		}
	}
	return out
}

func lostFields(live, want admissionregistrationv1.ValidatingWebhook) []string {
	var out []string
	check := func(kept bool, problem string) {
		if !kept {
			out = append(out, problem)
		}
	}
	check(ptr.Equal(live.FailurePolicy, want.FailurePolicy), "failurePolicy is not Ignore")
	check(ptr.Equal(live.SideEffects, want.SideEffects), "sideEffects is not None")
	check(live.TimeoutSeconds != nil && *live.TimeoutSeconds <= *want.TimeoutSeconds,
		fmt.Sprintf("timeoutSeconds is over %d", *want.TimeoutSeconds))
	check(selectsNoMore(live.NamespaceSelector, want.NamespaceSelector), "namespaceSelector does not exclude the exempt namespaces")
	check(containsAll(live.MatchConditions, want.MatchConditions), "matchConditions are missing or changed")
	return out
}

// selectsNoMore tells whether live has all the requirements of want. Some
// providers add their own to every webhook.
func selectsNoMore(live, want *metav1.LabelSelector) bool {
	return live != nil && !slices.ContainsFunc(want.MatchExpressions, func(w metav1.LabelSelectorRequirement) bool {
		return !slices.ContainsFunc(live.MatchExpressions, func(l metav1.LabelSelectorRequirement) bool {
			return equality.Semantic.DeepEqual(l, w)
		})
	})
}
