package servingcert

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	applyadmissionregistrationv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// entries are those of the live configuration whose caBundle is the Rotator's. One
// that is missing is not made: that is the guard's.
func (r *Rotator) entries(live *admissionregistrationv1.ValidatingWebhookConfiguration) []admissionregistrationv1.ValidatingWebhook {
	if live == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(live.Webhooks), func(w admissionregistrationv1.ValidatingWebhook) bool {
		return !slices.Contains(r.Entries, w.Name)
	})
}

// bundles are what API servers trust now.
func (r *Rotator) bundles(live *admissionregistrationv1.ValidatingWebhookConfiguration) [][]byte {
	var out [][]byte
	for _, w := range r.entries(live) {
		out = append(out, w.ClientConfig.CABundle)
	}
	return out
}

// trusts reports whether every entry has an authority already. Without entries it
// does not: one may come with a caBundle of before.
func (r *Rotator) trusts(live *admissionregistrationv1.ValidatingWebhookConfiguration, authority *x509.Certificate) bool {
	bundles := r.bundles(live)
	return len(bundles) > 0 && !slices.ContainsFunc(bundles, func(bundle []byte) bool {
		return !slices.ContainsFunc(parse(bundle), authority.Equal)
	})
}

// ensureBundle sets the caBundle of every entry where it is another. It applies
// that field alone, so that the guard and the Rotator own different ones.
func (r *Rotator) ensureBundle(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, bundle []byte) error {
	var other []string
	for _, w := range r.entries(live) {
		if !bytes.Equal(w.ClientConfig.CABundle, bundle) {
			other = append(other, w.Name)
		}
	}
	if len(other) == 0 {
		return nil
	}
	// With its UID and version: what was deleted is not made again, and a leader
	// that was replaced does not undo its successor's work: it read this before
	// the authority, and the successor writes this after the authority.
	next := applyadmissionregistrationv1.ValidatingWebhookConfiguration(live.Name).
		WithUID(live.UID).WithResourceVersion(live.ResourceVersion)
	for _, w := range r.entries(live) {
		next.WithWebhooks(applyadmissionregistrationv1.ValidatingWebhook().WithName(w.Name).
			WithClientConfig(applyadmissionregistrationv1.WebhookClientConfig().WithCABundle(bundle...)))
	}
	if err := r.Client.Apply(ctx, next, client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying the caBundle of ValidatingWebhookConfiguration %s: %w", live.Name, err)
	}
	r.Log.Info("caBundle brought up to date", "entries", other)
	r.Announce(false, "CABundleUpdated", fmt.Sprintf("set the caBundle of %s", other))
	return nil
}

// keepBundle is for while there is no authority: what the webhook's pods have
// stays trusted.
func (r *Rotator) keepBundle(ctx context.Context, f found) error {
	if f.serving == nil {
		return nil
	}
	trusted := parse(f.serving.Data[servingBundle])
	if len(trusted) == 0 {
		return nil
	}
	now := r.Clock.Now()
	t := retire(nil, append(trusted, parse(r.bundles(f.configuration)...)...), now.Add(trustAfter), now)
	var bundle []byte
	for _, a := range t {
		bundle = append(bundle, encode(a.certificate)...)
	}
	if len(bundle) == 0 {
		return nil // all have expired: nothing is gained by another caBundle
	}
	return r.ensureBundle(ctx, f.configuration, bundle)
}
