package install

const (
	// ConfigurationName is the name of the ValidatingWebhookConfiguration.
	ConfigurationName = "fusegate"
	// ServiceName is the Service in front of the webhook's pods.
	ServiceName = "fusegate-webhook"
	// NetworkPolicyName is the NetworkPolicy of the webhook's pods, if there is one.
	NetworkPolicyName = "fusegate-webhook"
	// CertSecretName is the Secret that holds the serving certificate. It is
	// installed empty, and webhook pods mount it.
	CertSecretName = "fusegate-webhook-cert"
	// AuthoritySecretName is the Secret of the authority that signs it. It is
	// installed empty, and no pod mounts it.
	AuthoritySecretName = "fusegate-webhook-ca"
	// ConfigMapName is the ConfigMap that holds the settings in force under
	// ConfigKey.
	ConfigMapName = "fusegate-config"
	// ConfigKey is the key of ConfigMapName, and the name of the file that the
	// pods see.
	ConfigKey = "fusegate.yaml"
	// WebhookPath is where the webhook answers: pkg/webhook's Path.
	WebhookPath = "/v1/admit"
)
