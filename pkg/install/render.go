package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/manifests"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
)

// The labels of everything that is installed.
const (
	nameLabel      = "app.kubernetes.io/name"
	partOfLabel    = "app.kubernetes.io/part-of"
	componentLabel = "app.kubernetes.io/component"

	product = "fusegate"
)

// configHash is the annotation of pods that makes a change of the
// configuration roll them out: they read it once, when they start.
const configHash = "fusegate.dev/config-hash"

// renderingAnnotation, on the ConfigMap, identifies the webhook configuration
// that was rendered for it, so that a process of another version does not take
// what its successor has installed for tampering.
const renderingAnnotation = "fusegate.dev/rendering"

func rendering(c *admissionregistrationv1.ValidatingWebhookConfiguration) string {
	text, err := json.Marshal(c.Webhooks)
	if err != nil {
		return "" // it holds nothing that cannot be encoded
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// kinds are those that a manifest may hold, by whether they are for what runs
// in the cluster only. A webhook or a policy is none of them: what intercepts
// requests is made in webhookConfiguration and nowhere else.
var kinds = map[string]bool{
	"Namespace":                false,
	"CustomResourceDefinition": false,
	"ClusterRole":              false,
	"Role":                     false,
	"ConfigMap":                false,
	"ClusterRoleBinding":       true,
	"Deployment":               true,
	"PodDisruptionBudget":      true,
	"ResourceQuota":            true,
	"RoleBinding":              true,
	"Secret":                   true,
	"Service":                  true,
	"ServiceAccount":           true,
}

// renderer makes objects of a configuration with its defaults.
type renderer struct{ config.Config }

// Render returns what the configuration installs. It is pure: equal
// configurations give equal plans, and the configuration in a plan's ConfigMap
// gives that plan. Errors are those of Config.Validate, except that expired
// certificates are rendered, so that an installation can be guarded after one
// has expired.
func Render(c config.Config) (Plan, error) {
	c = c.WithDefaults()
	if err := c.ValidateInstalled(); err != nil {
		return Plan{}, Refuse(fmt.Errorf("validating the configuration: %w", err))
	}
	perimeter, err := c.Perimeter()
	if err != nil {
		return Plan{}, err
	}
	r := renderer{c}
	objects, err := r.objects(perimeter)
	if err != nil {
		return Plan{}, fmt.Errorf("rendering the plan: %w", err)
	}
	definitions, err := r.definitions()
	if err != nil {
		return Plan{}, fmt.Errorf("rendering the plan: %w", err)
	}
	network, err := r.networkPolicy()
	if err != nil {
		return Plan{}, fmt.Errorf("rendering the plan: %w", err)
	}
	return Plan{Objects: objects, Definitions: definitions, NetworkPolicy: network, Config: c}, nil
}

// objects are the manifests with the ConfigMap before the pods that mount it,
// and the webhook configuration last.
func (c renderer) objects(p exempt.Perimeter) ([]*unstructured.Unstructured, error) {
	configMap, err := c.configMap()
	if err != nil {
		return nil, err
	}
	fromFiles, err := c.manifests(fingerprint(configMap))
	if err != nil {
		return nil, err
	}
	configuration := webhookConfiguration(c.Config, p)
	configMap.SetAnnotations(map[string]string{renderingAnnotation: rendering(configuration)})
	webhooks, err := object(configuration)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(fromFiles, runsPods)
	if at < 0 {
		at = len(fromFiles)
	}
	out := append(slices.Insert(fromFiles, at, configMap), webhooks)
	for _, u := range out {
		label(u)
	}
	return out, nil
}

func runsPods(u *unstructured.Unstructured) bool { return u.GetKind() == "Deployment" }

// configMap holds the settings that are in force, all but what is each
// process's own.
func (c renderer) configMap() (*unstructured.Unstructured, error) {
	text, err := c.YAML()
	if err != nil {
		return nil, err
	}
	return object(&corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: ConfigMapName},
		Data:       map[string]string{ConfigKey: string(text)},
	})
}

func fingerprint(configMap *unstructured.Unstructured) string {
	text, _, _ := unstructured.NestedString(configMap.Object, "data", ConfigKey)
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// manifests are the embedded files, fitted to the configuration.
func (c renderer) manifests(hash string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, name := range manifests.Order {
		objects, err := parse(name)
		if err != nil {
			return nil, fmt.Errorf("reading manifests/%s: %w", name, err)
		}
		for _, u := range objects {
			if kinds[u.GetKind()] && !c.InCluster() {
				continue
			}
			if err := c.fit(u, hash); err != nil {
				return nil, fmt.Errorf("fitting manifests/%s: %w", name, err)
			}
			out = append(out, u)
		}
	}
	return out, nil
}

// label puts the labels of all objects on one; its own stay.
func label(u *unstructured.Unstructured) {
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[nameLabel], labels[partOfLabel] = product, product
	u.SetLabels(labels)
}
