package install

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// Drift is a field of the live configuration that is not as it was rendered.
type Drift struct {
	Entry, Field string
}

// fuseManager is the field manager of the fuse, which may shorten the timeout.
const fuseManager = "fusegate-fuse"

// drift lists what of the wanted configuration is not so in the live one. What
// others added is not its business, as long as it only narrows; nor are rules
// and, before a Service, the caBundle, which have other owners.
func drift(live, want *admissionregistrationv1.ValidatingWebhookConfiguration) []Drift {
	var out []Drift
	for _, w := range want.Webhooks {
		l := entryOf(live, exempt.Entry(w.Name))
		if l == nil {
			out = append(out, Drift{w.Name, "name"})
			continue
		}
		for _, field := range driftedFields(*l, w, ownedBy(live, fuseManager, fieldOf(w.Name, "timeoutSeconds"))) {
			out = append(out, Drift{w.Name, field})
		}
	}
	return out
}

func driftedFields(live, want admissionregistrationv1.ValidatingWebhook, shortened bool) []string {
	var out []string
	check := func(kept bool, field string) {
		if !kept {
			out = append(out, field)
		}
	}
	timeout := ptr.Deref(live.TimeoutSeconds, 10)
	check(ptr.Equal(live.FailurePolicy, want.FailurePolicy), "failurePolicy")
	check(ptr.Equal(live.SideEffects, want.SideEffects), "sideEffects")
	check(ptr.Equal(live.MatchPolicy, want.MatchPolicy), "matchPolicy")
	check(timeout == *want.TimeoutSeconds || shortened && timeout < *want.TimeoutSeconds, "timeoutSeconds")
	check(slices.Equal(live.AdmissionReviewVersions, want.AdmissionReviewVersions), "admissionReviewVersions")
	check(selectsNoMore(live.NamespaceSelector, want.NamespaceSelector), "namespaceSelector")
	check(containsAll(live.MatchConditions, want.MatchConditions), "matchConditions")
	check(sameBackend(live.ClientConfig, want.ClientConfig), "clientConfig")
	return out
}

// sameBackend compares whom two entries send requests to. The caBundle counts
// only where it was rendered.
func sameBackend(live, want admissionregistrationv1.WebhookClientConfig) bool {
	if len(want.CABundle) == 0 {
		live.CABundle = nil
	}
	return equality.Semantic.DeepEqual(live, want)
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

// selectsNoMore tells whether live has all the requirements of want. Some
// providers add their own to every webhook.
func selectsNoMore(live, want *metav1.LabelSelector) bool {
	return live != nil && !slices.ContainsFunc(want.MatchExpressions, func(w metav1.LabelSelectorRequirement) bool {
		return !slices.ContainsFunc(live.MatchExpressions, func(l metav1.LabelSelectorRequirement) bool {
			return equality.Semantic.DeepEqual(l, w)
		})
	})
}

// describeDrift names the fields, by entry.
func describeDrift(found []Drift) string {
	var out []string
	for i, d := range found {
		if i > 0 && found[i-1].Entry == d.Entry {
			out[len(out)-1] += " and " + d.Field
			continue
		}
		if d.Field == "name" {
			out = append(out, "entry "+d.Entry+" (removed)")
			continue
		}
		out = append(out, d.Entry+" "+d.Field)
	}
	return strings.Join(out, ", ")
}

// blame names the field manager that most likely brought the drift about: the
// owner of a drifted field that is not Fusegate, else whoever wrote last. Who
// only takes fields away owns nothing, and leaves no trace of his name.
func blame(live *admissionregistrationv1.ValidatingWebhookConfiguration, found []Drift) string {
	for _, d := range found {
		if m := ownerOf(live, fieldOf(d.Entry, d.Field)); m != "" {
			return m
		}
	}
	latest := metav1.ManagedFieldsEntry{}
	for _, m := range live.ManagedFields {
		if !own(m.Manager) && m.Time != nil && (latest.Time == nil || !m.Time.Before(latest.Time)) {
			latest = m
		}
	}
	if latest.Manager == "" {
		return "an unknown writer"
	}
	return quoteManager(latest.Manager)
}

// ownerOf names the field manager, Fusegate's own aside, that owns a field or
// something in it, in quotes; empty if there is none. The field is a path as in
// webhooks[name="validation.fusegate.dev"].matchConditions[name="x"].
func ownerOf(live *admissionregistrationv1.ValidatingWebhookConfiguration, field string) string {
	for _, m := range live.ManagedFields {
		if !own(m.Manager) && owns(m, field) {
			return quoteManager(m.Manager)
		}
	}
	return ""
}

// fieldOf is the path of a field of an entry.
func fieldOf(entry, name string) string { return fmt.Sprintf("webhooks[name=%q].%s", entry, name) }

func quoteManager(name string) string { return `"` + name + `"` }

// own tells Fusegate's field managers.
func own(manager string) bool {
	return slices.Contains([]string{FieldManager, string(armer), fuseManager, "fusegate-cert"}, manager)
}

func ownedBy(live *admissionregistrationv1.ValidatingWebhookConfiguration, manager, field string) bool {
	return slices.ContainsFunc(live.ManagedFields, func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == manager && owns(m, field)
	})
}

// owns tells whether a manager owns the field or something in it.
func owns(m metav1.ManagedFieldsEntry, field string) bool {
	if m.FieldsV1 == nil {
		return false
	}
	set := &fieldpath.Set{}
	if err := set.FromJSON(m.FieldsV1.GetRawReader()); err != nil {
		return false
	}
	found := false
	set.Iterate(func(p fieldpath.Path) {
		rest, within := strings.CutPrefix(strings.TrimPrefix(p.String(), "."), field)
		found = found || within && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
	return found
}
