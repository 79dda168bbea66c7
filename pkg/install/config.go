package install

import (
	"cmp"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/exempt"
)

const (
	// ConfigurationName is the name of the ValidatingWebhookConfiguration.
	ConfigurationName = "fusegate"
	// ServiceName is the Service in front of the webhook's pods.
	ServiceName = "fusegate-webhook"
	// CertSecretName is the Secret that holds the serving certificate, and
	// AuthoritySecretName that of the authority which signs it. Both are installed
	// empty; only the former is mounted.
	CertSecretName      = "fusegate-webhook-cert"
	AuthoritySecretName = "fusegate-webhook-ca"
	// ConfigMapName is the ConfigMap that holds the effective Config under
	// ConfigKey.
	ConfigMapName = "fusegate-config"
	// ConfigKey is the key of ConfigMapName, and the name of the file that the
	// pods see.
	ConfigKey = "fusegate.yaml"
	// WebhookPath is where the webhook answers: pkg/webhook's Path.
	WebhookPath = "/v1/admit"
	// MaxTimeoutSeconds is the longest that a request may wait for the
	// webhook, and the default. With 10 s per write an API server with a
	// backend that hangs takes a minute to start.
	MaxTimeoutSeconds = 3
)

const (
	defaultServicePort        = 443
	defaultWebhookReplicas    = 3
	defaultControllerReplicas = 2
)

// Config says how Fusegate is installed. Its zero value lacks nothing but the
// Image. There is no field that makes the webhook fail closed or widens what
// it intercepts: Exempt can only exempt more.
type Config struct {
	// Namespace is where Fusegate runs; empty means exempt.DefaultNamespace.
	Namespace string `json:"namespace,omitempty"`
	// Image is the container image of both Deployments. It is required unless
	// WebhookURL is set.
	Image string `json:"image,omitempty"`
	// WebhookURL is where the API servers reach the webhook when it does not
	// run in the cluster: https, a host, and a path unless that is
	// WebhookPath. Nothing that runs in the cluster is then installed, nor
	// what binds rights to it.
	WebhookURL string `json:"webhookURL,omitempty"`
	// CABundle is what the certificate behind WebhookURL is verified with, in
	// PEM. It is required with WebhookURL and refused without.
	CABundle []byte `json:"caBundle,omitempty"`
	// ServicePort is the port of the Service in front of the webhook's pods, for
	// networks that let API servers reach some ports only; zero means 443.
	ServicePort int32 `json:"servicePort,omitempty"`
	// TimeoutSeconds is how long the API server waits for the webhook, from 1
	// to MaxTimeoutSeconds; zero means MaxTimeoutSeconds.
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// WebhookReplicas is the number of pods that answer; zero means 3.
	WebhookReplicas int32 `json:"webhookReplicas,omitempty"`
	// ControllerReplicas is the number of pods of which one is the leader;
	// zero means 2.
	ControllerReplicas int32 `json:"controllerReplicas,omitempty"`
	// Reports are the formats in which audit writes report objects, openreports
	// or policyreport; none if it is empty.
	Reports []string `json:"reports,omitempty"`
	// ReportLimit is how many reports there are at most of a format; zero means
	// pkg/report's default.
	ReportLimit int32 `json:"reportLimit,omitempty"`
	// InventorySecrets lets policies read Secrets in data.inventory, where a
	// template, SyncSet or Config asks for them and the pods have the right.
	InventorySecrets bool `json:"inventorySecrets,omitempty"`
	// Exempt widens the perimeter. Its OwnNamespace follows Namespace.
	Exempt exempt.Options `json:"exempt"`
	// TakeOverCRDs replaces CRDs of the same name that somebody else
	// installed. It is consent to one Apply and not part of the file.
	TakeOverCRDs bool `json:"-"`
}

// ParseConfig reads a Config in YAML or JSON, such as the ConfigMap holds. It
// refuses fields that Config does not have, so that a misspelt exemption is
// not taken for one that is in force; it does not validate.
func ParseConfig(data []byte) (Config, error) {
	c := Config{}
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return Config{}, fmt.Errorf("parsing the configuration: %w", err)
	}
	return c, nil
}

// Perimeter returns the protected perimeter of this installation: what the
// webhook configuration is rendered from, and what the webhook itself checks.
func (c Config) Perimeter() (exempt.Perimeter, error) {
	p, err := exempt.New(c.withDefaults().Exempt)
	if err != nil {
		return exempt.Perimeter{}, fmt.Errorf("exempt: %w", err)
	}
	return p, nil
}

// withDefaults returns the effective configuration.
func (c Config) withDefaults() Config {
	c.Namespace = cmp.Or(c.Namespace, exempt.DefaultNamespace)
	if c.inCluster() {
		c.ServicePort = cmp.Or(c.ServicePort, defaultServicePort)
	}
	c.TimeoutSeconds = cmp.Or(c.TimeoutSeconds, MaxTimeoutSeconds)
	c.WebhookReplicas = cmp.Or(c.WebhookReplicas, defaultWebhookReplicas)
	c.ControllerReplicas = cmp.Or(c.ControllerReplicas, defaultControllerReplicas)
	c.Exempt.OwnNamespace = cmp.Or(c.Exempt.OwnNamespace, c.Namespace)
	return c
}

// inCluster tells whether the webhook runs in the cluster.
func (c Config) inCluster() bool { return c.WebhookURL == "" }
