package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
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

// Is implements errors.Is for ErrRefused.
func (e *UnsafeError) Is(target error) bool { return target == ErrRefused }

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
		return Refuse(fmt.Errorf("the API server is Kubernetes %s: Fusegate needs %s or later, where matchConditions are stable; "+
			"without them its webhook would be in the way of the control plane; upgrade the cluster first", info.GitVersion, minimumVersion))
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
	found := slices.DeleteFunc(drift(live, want), func(d Drift) bool { return shorter(live, want, d) })
	if len(found) == 0 {
		return nil
	}
	unsafe := &UnsafeError{}
	for _, d := range found {
		unsafe.Problems = append(unsafe.Problems, d.Entry+": "+d.problem())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	if err := a.client.Delete(ctx, live, client.Preconditions{UID: &live.UID}); client.IgnoreNotFound(err) != nil {
		return errors.Join(unsafe, fmt.Errorf("removing ValidatingWebhookConfiguration %s: %w", want.Name, err))
	}
	unsafe.Removed = true
	return unsafe
}

// shorter tells whether the drift is a shorter timeout, which only lets
// requests through earlier.
func shorter(live, want *admissionregistrationv1.ValidatingWebhookConfiguration, d Drift) bool {
	l, w := entryOf(live, exempt.Entry(d.Entry)), entryOf(want, exempt.Entry(d.Entry))
	return d.Field == "timeoutSeconds" && l.TimeoutSeconds != nil && *l.TimeoutSeconds < *w.TimeoutSeconds
}

// problem says what is wrong with the field.
func (d Drift) problem() string {
	switch d.Field {
	case "name":
		return "the entry is missing"
	case "failurePolicy":
		return "failurePolicy is not Ignore"
	case "sideEffects":
		return "sideEffects is not None"
	case "timeoutSeconds":
		return fmt.Sprintf("timeoutSeconds is over %d", config.MaxTimeoutSeconds)
	case "namespaceSelector":
		return "namespaceSelector does not exclude the exempt namespaces"
	case "matchConditions":
		return "matchConditions are missing or changed"
	}
	return d.Field + " is not as it was rendered"
}
