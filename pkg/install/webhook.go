package install

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
)

// installedEntries are the entries of the webhook configuration, in order.
var installedEntries = []exempt.Entry{exempt.PolicyEntry, exempt.EngineEntry, exempt.ProbeEntry}

// installed tells whether an entry of that name is Fusegate's.
func installed(name string) bool { return slices.Contains(installedEntries, exempt.Entry(name)) }

// webhookConfiguration is the one place where a webhook configuration is made.
// All that keeps it safe is a constant here or comes from the perimeter. It
// has no rules and, before a Service, no caBundle: both have other owners.
func webhookConfiguration(c config.Config, p exempt.Perimeter) *admissionregistrationv1.ValidatingWebhookConfiguration {
	out := &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta: metav1.TypeMeta{
			APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: webhookKind,
		},
		ObjectMeta: metav1.ObjectMeta{Name: ConfigurationName, Labels: map[string]string{componentLabel: "webhook"}},
	}
	for _, entry := range installedEntries {
		out.Webhooks = append(out.Webhooks, admissionregistrationv1.ValidatingWebhook{
			Name:                    string(entry),
			ClientConfig:            clientConfig(c),
			FailurePolicy:           ptr.To(admissionregistrationv1.Ignore),
			MatchPolicy:             ptr.To(admissionregistrationv1.Equivalent),
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          ptr.To(min(c.TimeoutSeconds, config.MaxTimeoutSeconds)),
			AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector:       p.NamespaceSelector(),
			MatchConditions:         p.MatchConditions(entry),
		})
	}
	return out
}

func clientConfig(c config.Config) admissionregistrationv1.WebhookClientConfig {
	if !c.InCluster() {
		return admissionregistrationv1.WebhookClientConfig{URL: ptr.To(webhookURL(c)), CABundle: c.CABundle}
	}
	return admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{
		Namespace: c.Namespace, Name: ServiceName, Path: ptr.To(WebhookPath), Port: ptr.To(c.ServicePort),
	}}
}

// webhookURL is WebhookURL with the path that is meant when it has none.
func webhookURL(c config.Config) string {
	if base := strings.TrimSuffix(c.WebhookURL, "/"); strings.Count(base, "/") == 2 {
		return base + WebhookPath
	}
	return c.WebhookURL
}

// object converts what Go makes into what a Plan holds.
func object(typed runtime.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return nil, fmt.Errorf("converting %T: %w", typed, err)
	}
	u := &unstructured.Unstructured{Object: content}
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	return u, nil
}
