package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
)

// How Gatekeeper's workloads and webhook entries are told, whatever a chart
// calls their objects (Gatekeeper 3.23, manifest_staging/deploy/gatekeeper.yaml).
const (
	gatekeeperLabel       = "gatekeeper.sh/system"
	gatekeeperEntrySuffix = ".gatekeeper.sh"
)

var (
	gatekeeperDeployments = []string{"gatekeeper-audit", "gatekeeper-controller-manager"}
	gatekeeperWebhooks    = []string{"gatekeeper-mutating-webhook-configuration", "gatekeeper-validating-webhook-configuration"}
)

// GatekeeperError says that Gatekeeper is in the cluster. It matches
// ErrRefused.
type GatekeeperError struct {
	// Found are its webhook configurations and Deployments, in this order.
	Found []Ref
}

// Is implements errors.Is for ErrRefused.
func (e *GatekeeperError) Is(target error) bool { return target == ErrRefused }

// Error names what was found, why it matters and what to do.
func (e *GatekeeperError) Error() string {
	names, commands := make([]string, len(e.Found)), make([]string, len(e.Found))
	for i, r := range e.Found {
		names[i] = r.String()
		commands[i] = "kubectl delete " + strings.ToLower(r.Kind) + " " + r.Name
		if r.Namespace != "" {
			commands[i] += " -n " + r.Namespace
		}
	}
	return fmt.Sprintf("Gatekeeper is in this cluster (%s): two engines would judge the same requests by the same templates and constraints, and overwrite each other's definitions and status. "+
		"Stop it first and keep its CRDs, and with them your policies (%s), or uninstall it with the tool that installed it; then install with --take-over-crds",
		strings.Join(names, ", "), strings.Join(commands, "; "))
}

// checkGatekeeper refuses to go on where Gatekeeper is.
func checkGatekeeper(ctx context.Context, c client.Reader) error {
	var found []Ref
	for _, find := range []func(context.Context, client.Reader) ([]Ref, error){
		findMutatingWebhooks, findValidatingWebhooks, findDeployments,
	} {
		refs, err := find(ctx, c)
		if err != nil {
			return fmt.Errorf("looking for Gatekeeper: %w", err)
		}
		found = append(found, refs...)
	}
	if len(found) == 0 {
		return nil
	}
	return &GatekeeperError{Found: found}
}

func findValidatingWebhooks(ctx context.Context, c client.Reader) ([]Ref, error) {
	list := &admissionregistrationv1.ValidatingWebhookConfigurationList{}
	if err := c.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing validating webhook configurations: %w", err)
	}
	var out []Ref
	for _, item := range list.Items {
		if isGatekeepers(item.Name, item.Webhooks, func(w admissionregistrationv1.ValidatingWebhook) string { return w.Name }) {
			out = append(out, Ref{GroupVersionKind: admissionregistrationv1.SchemeGroupVersion.WithKind(webhookKind), Name: item.Name})
		}
	}
	return out, nil
}

func findMutatingWebhooks(ctx context.Context, c client.Reader) ([]Ref, error) {
	list := &admissionregistrationv1.MutatingWebhookConfigurationList{}
	if err := c.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing mutating webhook configurations: %w", err)
	}
	var out []Ref
	for _, item := range list.Items {
		if isGatekeepers(item.Name, item.Webhooks, func(w admissionregistrationv1.MutatingWebhook) string { return w.Name }) {
			out = append(out, Ref{GroupVersionKind: admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"), Name: item.Name})
		}
	}
	return out, nil
}

// isGatekeepers tells Gatekeeper's webhook configurations by name or entry.
func isGatekeepers[W any](configuration string, webhooks []W, name func(W) string) bool {
	return slices.Contains(gatekeeperWebhooks, configuration) ||
		slices.ContainsFunc(webhooks, func(w W) bool { return strings.HasSuffix(name(w), gatekeeperEntrySuffix) })
}

func findDeployments(ctx context.Context, c client.Reader) ([]Ref, error) {
	kind := appsv1.SchemeGroupVersion.WithKind("Deployment")
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	if err := c.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing Deployments: %w", err)
	}
	var out []Ref
	for _, d := range list.Items {
		if d.Labels[partOfLabel] == product {
			continue
		}
		if d.Labels[gatekeeperLabel] == "yes" || slices.Contains(gatekeeperDeployments, d.Name) {
			out = append(out, Ref{GroupVersionKind: kind, Namespace: d.Namespace, Name: d.Name})
		}
	}
	return out, nil
}

// Exclusions are what Gatekeeper's Config keeps from its admission webhook.
type Exclusions struct {
	// Source is the Config.
	Source Ref
	// Namespaces are names and globs as they are written there, in order,
	// without what is there twice.
	Namespaces []string
}

// GatekeeperExclusions reads Gatekeeper's Config: of spec.match, what is for
// the processes webhook and "*". It returns nil if there is no Config, or if it
// excludes nothing.
func GatekeeperExclusions(ctx context.Context, c client.Reader) (*Exclusions, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "config.gatekeeper.sh", Version: "v1alpha1", Kind: "ConfigList"})
	err := c.List(ctx, list)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Gatekeeper's Config: %w", err)
	}
	for i := range list.Items {
		// Gatekeeper looks at the one with this name only.
		if u := &list.Items[i]; u.GetName() == "config" {
			if namespaces := excludedNamespaces(u); len(namespaces) > 0 {
				return &Exclusions{Source: refOf(u), Namespaces: namespaces}, nil
			}
		}
	}
	return nil, nil
}

func excludedNamespaces(u *unstructured.Unstructured) []string {
	var out []string
	matches, _, _ := unstructured.NestedSlice(u.Object, "spec", "match")
	for _, m := range matches {
		entry, ok := m.(map[string]any)
		if !ok {
			continue
		}
		processes, _, _ := unstructured.NestedStringSlice(entry, "processes")
		if !slices.Contains(processes, "*") && !slices.Contains(processes, "webhook") {
			continue
		}
		namespaces, _, _ := unstructured.NestedStringSlice(entry, "excludedNamespaces")
		for _, n := range namespaces {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// Missing are the exclusions that the configuration's perimeter does not have
// yet. Errors are those of Config.Perimeter.
func (e *Exclusions) Missing(c config.Config) ([]string, error) {
	perimeter, err := c.Perimeter()
	if err != nil || e == nil {
		return nil, err
	}
	var out []string
	for _, n := range e.Namespaces {
		// A glob is there if it is written there; a name also if a glob has it.
		if !slices.Contains(c.Exempt.Namespaces, n) && (strings.Contains(n, "*") || !perimeter.ExemptNamespace(n)) {
			out = append(out, n)
		}
	}
	return out, nil
}

// Import returns the configuration with what Missing returns added to
// Exempt.Namespaces. What cannot be expressed there is refused by name, and
// then nothing is added.
func (e *Exclusions) Import(c config.Config) (config.Config, error) {
	missing, err := e.Missing(c)
	if err != nil {
		return c, err
	}
	var errs []error
	for _, n := range missing {
		if _, err := exempt.New(exempt.Options{Namespaces: []string{n}}); err != nil {
			errs = append(errs, fmt.Errorf("%s excludes %q, which exempt.namespaces cannot: %w", e.Source, n, err))
		}
	}
	if len(errs) > 0 {
		return c, Refuse(fmt.Errorf("importing what Gatekeeper excludes: %w; take it out of the Config, or install without --import-gatekeeper-config and list what you mean under exempt.namespaces", errors.Join(errs...)))
	}
	c.Exempt.Namespaces = append(slices.Clone(c.Exempt.Namespaces), missing...)
	return c, nil
}
