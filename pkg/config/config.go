// Package config holds everything that can be set: one type, its defaults, what
// is possible, and the form that a file and the installation's ConfigMap have.
// The command line reads flags and variables and hands over a map, pkg/install
// renders what is in force into the ConfigMap, and the pods read it from there,
// so that a setting is known to all of them or to none.
//
// To add a setting, add a field to Config and a row to Settings. Flags,
// variables, the keys of the file and the ConfigMap follow from those.
package config

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// Bounds and defaults that others refer to.
const (
	// MaxTimeoutSeconds is the longest that a request may wait for the
	// webhook, and the default. With 10 s per write an API server with a
	// backend that hangs takes a minute to start.
	MaxTimeoutSeconds = 3
	// DefaultAuditLimit is how many violations the status of a constraint lists.
	DefaultAuditLimit = 20
	// MaxAuditLimit is how many it may list: what is in a status is in etcd.
	MaxAuditLimit = 500
	// DefaultAuditResync is how often audit reads everything again.
	DefaultAuditResync = time.Hour
	// DefaultAuditWorkers is how many objects audit reviews at a time.
	DefaultAuditWorkers = 2
	// DefaultReportLimit is how many reports there may be of a format.
	DefaultReportLimit = 10_000
	// MaxReportLimit bounds it: each report takes some 2 KB of etcd.
	MaxReportLimit = 100_000
	// DefaultMaxObjectBytes is more than an API server takes in one request, 3 MiB
	// (MaxRequestBodyBytes in k8s.io/apiserver pkg/server/config.go), with what it
	// adds, and than etcd stores, 1.5 MiB.
	DefaultMaxObjectBytes = 4 << 20
	// DefaultMaxObjectContainers is more than a node runs: the kubelet's default
	// is 110 pods (maxPods).
	DefaultMaxObjectContainers = 1000
	// DefaultMaxObjectDepth is ten times the depth of large schemas and workflows;
	// an API server reads 10,000 levels.
	DefaultMaxObjectDepth = 1000
	// MaxReplicas bounds the pods of a Deployment.
	MaxReplicas = 100
)

const (
	defaultServicePort        = 443
	defaultWebhookReplicas    = 3
	defaultControllerReplicas = 2
	defaultCheckEvery         = 100
)

// The roles that a process can serve.
const (
	RoleWebhook    = "webhook"
	RoleController = "controller"
)

// The formats of report objects.
const (
	OpenReports  = "openreports"
	PolicyReport = "policyreport"
)

// Config is everything that can be set. The keys of a file are the json names.
// WithDefaults fills in what is zero; for an installation in the cluster the
// zero value lacks nothing but the Image. There is no field that makes the
// webhook fail closed or widens what it intercepts: Exempt can only exempt more.
type Config struct {
	// Namespace is where Fusegate runs; empty means exempt.DefaultNamespace.
	Namespace string `json:"namespace"`
	// Image is the container image of both Deployments. It is required unless
	// WebhookURL is set.
	Image string `json:"image"`
	// WebhookURL is where the API servers reach the webhook when it does not
	// run in the cluster: https, a host, and a path unless it is to be the
	// webhook's own. Nothing that runs in the cluster is then installed, nor
	// what binds rights to it.
	WebhookURL string `json:"webhookURL"`
	// CABundle is what the certificate behind WebhookURL is verified with, in
	// PEM. It is required with WebhookURL and refused without. CAFile is where
	// it is read from.
	CABundle []byte `json:"caBundle"`
	CAFile   string `json:"caFile"`
	// ServicePort is the port of the Service in front of the webhook's pods, for
	// networks that let API servers reach some ports only; zero means 443, and
	// none with WebhookURL.
	ServicePort int32 `json:"servicePort"`
	// WebhookSources are the CIDRs that API servers' connections to the webhook's pods
	// come from: a NetworkPolicy keeps all others from the webhook's port. There is
	// none if it is empty, nor with WebhookURL.
	WebhookSources []string `json:"webhookSources"`
	// TimeoutSeconds is how long the API server waits for the webhook, from 1
	// to MaxTimeoutSeconds; zero means MaxTimeoutSeconds.
	TimeoutSeconds int32 `json:"timeoutSeconds"`
	// WebhookReplicas is the number of pods that answer; zero means 3.
	WebhookReplicas int32 `json:"webhookReplicas"`
	// ControllerReplicas is the number of pods of which one is the leader;
	// zero means 2.
	ControllerReplicas int32 `json:"controllerReplicas"`
	// Exempt widens the perimeter. Its OwnNamespace follows Namespace.
	Exempt exempt.Options `json:"exempt"`

	// APIServers are the URLs of all API servers, each of which is asked by
	// canaries whether it enforces; if empty they are found out.
	APIServers []string `json:"apiServers"`
	// InventorySecrets lets policies read Secrets in data.inventory, where a
	// template, SyncSet or Config asks for them and the pods have the right.
	InventorySecrets bool `json:"inventorySecrets"`
	// AuditLimit is how many violations the status of a constraint lists; zero
	// means DefaultAuditLimit.
	AuditLimit int32 `json:"auditLimit"`
	// AuditResync is how often audit reads everything again; zero means
	// DefaultAuditResync.
	AuditResync time.Duration `json:"auditResync"`
	// AuditWorkers is how many objects audit reviews at a time; zero means
	// DefaultAuditWorkers.
	AuditWorkers int32 `json:"auditWorkers"`
	// CheckEvery is one in how many reviews is evaluated again by OPA's
	// interpreter, to compare; zero means none, and nil one in 100.
	CheckEvery *int32 `json:"checkEvery"`
	// MaxObjectBytes, MaxObjectContainers and MaxObjectDepth are what an object may
	// have before its creation, or an update that makes it larger, is refused
	// unseen where a constraint that denies matches it. Zero means
	// DefaultMaxObjectBytes, DefaultMaxObjectContainers and DefaultMaxObjectDepth.
	MaxObjectBytes      int32 `json:"maxObjectBytes"`
	MaxObjectContainers int32 `json:"maxObjectContainers"`
	MaxObjectDepth      int32 `json:"maxObjectDepth"`
	// Reports are the formats in which audit writes report objects, OpenReports
	// or PolicyReport; none if it is empty.
	Reports []string `json:"reports"`
	// ReportLimit is how many reports there are at most of a format; zero means
	// DefaultReportLimit.
	ReportLimit int32 `json:"reportLimit"`
	// ClientCA verifies the client certificates that API servers present to the
	// webhook, in PEM, and ClientNames are their subjects' common names; without both
	// nobody is asked for one.
	ClientCA    []byte   `json:"clientCA"`
	ClientNames []string `json:"clientNames"`
	// LogDenies logs every violation that denies a request.
	LogDenies bool `json:"logDenies"`
	// LogLevel is error, info or debug; empty means info.
	LogLevel string `json:"logLevel"`
	// LogFormat is json or console; empty means json.
	LogFormat string `json:"logFormat"`

	// Kubeconfig and Context say how to reach the cluster, as kubectl has them.
	Kubeconfig string `json:"kubeconfig"`
	Context    string `json:"context"`
	// Roles are what the process serves, RoleWebhook or RoleController; nil
	// means both.
	Roles []string `json:"roles"`
	// PodName is the name of the process in status and Leases; empty means the
	// host's and a random suffix.
	PodName string `json:"podName"`
	// Listen is the address of the webhook, MetricsListen that of /metrics and
	// HealthListen that of /healthz and /readyz; empty means :9443, :8080 and
	// :8081, and "0", for the latter two, none.
	Listen        string `json:"listen"`
	MetricsListen string `json:"metricsListen"`
	HealthListen  string `json:"healthListen"`
	// CertDir holds tls.crt and tls.key.
	CertDir string `json:"certDir"`
	// RotateCerts makes and renews the serving certificate in a Secret.
	RotateCerts bool `json:"rotateCerts"`
}

// Default is what is in force where nothing is said, of an installation in the
// cluster. It has no Image, which depends on the version.
func Default() Config { return Config{}.WithDefaults() }

// WithDefaults returns what is in force: c, and the defaults for what it leaves
// open. It shares with c what c refers to.
func (c Config) WithDefaults() Config {
	c.Namespace = cmp.Or(c.Namespace, exempt.DefaultNamespace)
	if c.InCluster() {
		c.ServicePort = cmp.Or(c.ServicePort, defaultServicePort)
	}
	c.TimeoutSeconds = cmp.Or(c.TimeoutSeconds, MaxTimeoutSeconds)
	c.WebhookReplicas = cmp.Or(c.WebhookReplicas, defaultWebhookReplicas)
	c.ControllerReplicas = cmp.Or(c.ControllerReplicas, defaultControllerReplicas)
	c.Exempt.OwnNamespace = cmp.Or(c.Exempt.OwnNamespace, c.Namespace)
	c.Exempt.KubeSystemAccounts = cmp.Or(c.Exempt.KubeSystemAccounts, exempt.AllAccounts)
	c.AuditLimit = cmp.Or(c.AuditLimit, DefaultAuditLimit)
	c.AuditResync = cmp.Or(c.AuditResync, DefaultAuditResync)
	c.AuditWorkers = cmp.Or(c.AuditWorkers, DefaultAuditWorkers)
	if c.CheckEvery == nil {
		c.CheckEvery = new(int32(defaultCheckEvery))
	}
	c.MaxObjectBytes = cmp.Or(c.MaxObjectBytes, DefaultMaxObjectBytes)
	c.MaxObjectContainers = cmp.Or(c.MaxObjectContainers, DefaultMaxObjectContainers)
	c.MaxObjectDepth = cmp.Or(c.MaxObjectDepth, DefaultMaxObjectDepth)
	c.ReportLimit = cmp.Or(c.ReportLimit, DefaultReportLimit)
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	c.LogFormat = cmp.Or(c.LogFormat, "json")
	return c.processDefaults()
}

func (c Config) processDefaults() Config {
	if c.Roles == nil {
		c.Roles = []string{RoleWebhook, RoleController}
	}
	c.Listen = cmp.Or(c.Listen, ":9443")
	c.MetricsListen = cmp.Or(c.MetricsListen, ":8080")
	c.HealthListen = cmp.Or(c.HealthListen, ":8081")
	return c
}

// InCluster reports whether the webhook runs in the cluster.
func (c Config) InCluster() bool { return c.WebhookURL == "" }

// Serves reports whether the process has the role.
func (c Config) Serves(role string) bool { return slices.Contains(c.Roles, role) }

// Perimeter returns the protected perimeter of this installation: what the
// webhook configuration is rendered from, and what the webhook itself checks.
func (c Config) Perimeter() (exempt.Perimeter, error) {
	p, err := exempt.New(c.WithDefaults().Exempt)
	if err != nil {
		return exempt.Perimeter{}, fmt.Errorf("exempt: %w", err)
	}
	return p, nil
}
