package config

import (
	"reflect"
	"slices"
	"strings"
)

// Command is a command of the command line that reads settings.
type Command string

// The commands that read settings. Each reads them all; which of them it has a
// flag for, and so a variable, is in Settings.
const (
	Install   Command = "install"
	Manifests Command = "manifests"
	Uninstall Command = "uninstall"
	Serve     Command = "serve"
)

// Setting is one key of the configuration. Its type and its default are those
// of the field of Config with that json name.
type Setting struct {
	// Key is its name in the file.
	Key string
	// Flag is its flag; empty for those that only a file has, with the reason
	// in FileOnly. The variable follows from it: see Variable.
	Flag, FileOnly string
	// Help describes the flag. A word in backquotes stands for its value.
	Help string
	// Commands are those that have the flag.
	Commands []Command
	// PerProcess says why the setting is each process's own, and therefore not
	// in the ConfigMap; it is empty for those that the installation has.
	PerProcess string
}

var (
	everywhere = []Command{Install, Manifests, Uninstall, Serve}
	connecting = []Command{Install, Uninstall, Serve}
	rendering  = []Command{Install, Manifests}
	serving    = []Command{Serve}
	// running are those of what runs, which an installation passes on.
	running = []Command{Install, Manifests, Serve}
)

// Settings lists every setting: first those of the installation, then those of
// a process. The caller must not change it.
func Settings() []Setting { return settings }

var settings = []Setting{
	{Key: "namespace", Flag: "namespace", Commands: everywhere, Help: "namespace of Fusegate's own objects"},
	{Key: "image", Flag: "image", Commands: rendering, Help: "container image"},
	{Key: "webhookURL", Flag: "webhook-url", Commands: rendering, Help: "https `URL` where the API servers reach a webhook that runs outside the cluster"},
	{Key: "caBundle", FileOnly: "it is several lines long: --ca-file reads it"},
	{Key: "servicePort", Flag: "service-port", Commands: rendering, Help: "port of the webhook's Service"},
	{Key: "webhookSources", Flag: "webhook-sources", Commands: rendering, Help: "`CIDRs` that API servers reach the webhook from; a NetworkPolicy keeps others from its port, and install takes that back if it shuts one out (default: no NetworkPolicy)"},
	{Key: "timeoutSeconds", Flag: "timeout-seconds", Commands: rendering, Help: "how long the API server waits for the webhook, 1 to 3"},
	{Key: "webhookReplicas", Flag: "webhook-replicas", Commands: rendering, Help: "pods that answer the API server"},
	{Key: "controllerReplicas", Flag: "controller-replicas", Commands: rendering, Help: "pods of which one leads"},
	{Key: "exempt", FileOnly: "it has keys of its own"},
	{Key: "apiServers", Flag: "api-servers", Commands: running, Help: "`URLs` of all API servers, each of which is asked whether it enforces (default: in a cluster those registered in default/kubernetes, else the kubeconfig's)"},
	{Key: "inventorySecrets", Flag: "inventory-secrets", Commands: running, Help: "let policies read Secrets in data.inventory where they ask for them; the pods need the right to read them, too"},
	{Key: "auditLimit", Flag: "audit-limit", Commands: running, Help: "how many violations are listed in the status of a constraint"},
	{Key: "auditResync", Flag: "audit-resync", Commands: running, Help: "how often audit reads everything again; in between it follows changes"},
	{Key: "auditWorkers", Flag: "audit-workers", Commands: running, Help: "how many objects audit reviews at a time"},
	{Key: "checkEvery", Flag: "check-every", Commands: running, Help: "evaluate one in so many reviews again by OPA's interpreter, in spare time, to compare; 0 for none"},
	{Key: "maxObjectBytes", Flag: "max-object-bytes", Commands: running, Help: "refuse objects of more `bytes` unseen, where a constraint denies"},
	{Key: "maxObjectContainers", Flag: "max-object-containers", Commands: running, Help: "refuse objects whose pod has more containers unseen, where a constraint denies"},
	{Key: "maxObjectDepth", Flag: "max-object-depth", Commands: running, Help: "refuse objects that are nested deeper unseen, where a constraint denies"},
	{Key: "reports", Flag: "reports", Commands: running, Help: "write what audit finds as report objects in these `formats`: openreports, policyreport"},
	{Key: "reportLimit", Flag: "report-limit", Commands: running, Help: "how many reports there may be of a format"},
	{Key: "clientCA", FileOnly: "it is several lines long"},
	{Key: "clientNames", Flag: "client-names", Commands: running, Help: "common `names` of the client certificates that API servers present to the webhook; needs clientCA"},
	{Key: "logDenies", Flag: "log-denies", Commands: running, Help: "log every violation that denies a request"},
	{Key: "logLevel", Flag: "log-level", Commands: running, Help: "log level: error, info, debug"},
	{Key: "logFormat", Flag: "log-format", Commands: running, Help: "log format: json, console"},

	{
		Key: "kubeconfig", Flag: "kubeconfig", Commands: connecting, Help: "kubeconfig `file`; empty for $KUBECONFIG, the default file or the pod's service account",
		PerProcess: "it is a path on the machine where the command runs; pods have their service account",
	},
	{Key: "context", Flag: "context", Commands: connecting, Help: "context of the kubeconfig", PerProcess: "it is a name in the kubeconfig"},
	{
		Key: "caFile", Flag: "ca-file", Commands: rendering, Help: "PEM `file` with the certificate authority of --webhook-url",
		PerProcess: "it is a path on the machine where the command runs; what is in the file becomes caBundle",
	},
	{Key: "roles", Flag: "roles", Commands: serving, Help: "what to serve: webhook, controller", PerProcess: "each Deployment has its own"},
	{
		Key: "podName", Flag: "pod-name", Commands: serving, Help: "name of this process in status and Leases (default: the host's name and a random suffix)",
		PerProcess: "each pod has its own",
	},
	{Key: "listen", Flag: "listen", Commands: serving, Help: "`address` of the webhook", PerProcess: "the Service and the probes of the Deployments name the ports"},
	{Key: "metricsListen", Flag: "metrics-listen", Commands: serving, Help: "`address` of /metrics; 0 for none", PerProcess: "the Deployments name the ports"},
	{Key: "healthListen", Flag: "health-listen", Commands: serving, Help: "`address` of /healthz and /readyz; 0 for none", PerProcess: "the probes of the Deployments name the ports"},
	{Key: "certDir", Flag: "cert-dir", Commands: serving, Help: "`directory` with tls.crt and tls.key for the webhook", PerProcess: "it is where the Deployment of the webhook mounts the Secret"},
	{
		Key: "rotateCerts", Flag: "rotate-certs", Commands: serving, Help: "make and renew the serving certificate and its authority in their Secrets, and the configuration's caBundle (role controller, in a cluster)",
		PerProcess: "the Deployment of the controller has it",
	},
}

// Find returns the setting of a key.
func Find(key string) (Setting, bool) {
	at := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == key })
	if at < 0 {
		return Setting{}, false
	}
	return settings[at], true
}

// Variable is the environment variable of a flag.
func Variable(flag string) string {
	return "FUSEGATE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Of returns the value that c has of the setting: a string, bool, int32,
// []string, []byte, time.Duration or exempt.Options. What is open where zero
// has a meaning of its own is the zero value.
func (s Setting) Of(c Config) any {
	v := reflect.Indirect(s.field(reflect.ValueOf(c)))
	if !v.IsValid() {
		return int32(0)
	}
	return v.Interface()
}

func (s Setting) field(config reflect.Value) reflect.Value {
	return config.FieldByIndex(fields[s.Key])
}

// fields are the indexes of the fields of Config, by key.
var fields = func() map[string][]int {
	out := map[string][]int{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		out[keyOf(f)] = f.Index
	}
	return out
}()

// keyOf is the key that a field has in a file.
func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return key
}

// keys lists the keys that a struct has in a file.
func keys(t reflect.Type) []string {
	var out []string
	for _, f := range reflect.VisibleFields(t) {
		out = append(out, keyOf(f))
	}
	slices.Sort(out)
	return out
}
