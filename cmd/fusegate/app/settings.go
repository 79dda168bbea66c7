package app

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

// settings are everything that a flag, the environment or the configuration
// file can say. The file's keys are the json names; a command looks at those
// that concern it.
type settings struct {
	install.Config
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Context    string `json:"context,omitempty"`
	// CAFile is where CABundle is read from.
	CAFile string `json:"caFile,omitempty"`

	Roles         []string `json:"roles,omitempty"`
	PodName       string   `json:"podName,omitempty"`
	Listen        string   `json:"listen,omitempty"`
	CertDir       string   `json:"certDir,omitempty"`
	RotateCerts   bool     `json:"rotateCerts,omitempty"`
	MetricsListen string   `json:"metricsListen,omitempty"`
	HealthListen  string   `json:"healthListen,omitempty"`
	LogDenies     bool     `json:"logDenies,omitempty"`
	LogLevel      string   `json:"logLevel,omitempty"`
	LogFormat     string   `json:"logFormat,omitempty"`
	APIServers    []string `json:"apiServers,omitempty"`

	AuditLimit   int32         `json:"auditLimit,omitempty"`
	AuditResync  time.Duration `json:"auditResync,omitempty"`
	AuditWorkers int32         `json:"auditWorkers,omitempty"`
	CheckEvery   int32         `json:"checkEvery,omitempty"`
}

// flagKeys are the keys of the flags that are settings, by flag. Of the keys,
// only exempt and caBundle have no flag. Of the flags, those that consent to
// one run, such as --force-conflicts, are no settings.
var flagKeys = map[string]string{
	"namespace": "namespace", "image": "image", "webhook-url": "webhookURL", "ca-file": "caFile",
	"timeout-seconds": "timeoutSeconds", "service-port": "servicePort", "webhook-replicas": "webhookReplicas", "controller-replicas": "controllerReplicas",
	"kubeconfig": "kubeconfig", "context": "context",
	"roles": "roles", "pod-name": "podName", "listen": "listen", "cert-dir": "certDir",
	"rotate-certs": "rotateCerts", "metrics-listen": "metricsListen", "health-listen": "healthListen",
	"log-denies": "logDenies", "log-level": "logLevel", "log-format": "logFormat",
	"api-servers": "apiServers", "inventory-secrets": "inventorySecrets",
	"reports": "reports", "report-limit": "reportLimit",
	"audit-limit": "auditLimit", "audit-resync": "auditResync", "audit-workers": "auditWorkers", "check-every": "checkEvery",
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "FUSEGATE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func configFlag(fs *pflag.FlagSet) {
	fs.String("config", "", "configuration `file` in YAML, its keys the settings' names (env FUSEGATE_CONFIG; default ./fusegate.yaml if there is one)")
}

func clusterFlags(fs *pflag.FlagSet) {
	fs.String("kubeconfig", "", "kubeconfig `file`; empty for $KUBECONFIG, the default file or the pod's service account")
	fs.String("context", "", "context of the kubeconfig")
}

// load reads the settings of a command: flag, then environment, then file,
// then the flag's default.
func load(cmd *cobra.Command) (settings, error) {
	if _, ok := os.LookupEnv(envName("failure-policy")); ok {
		return settings{}, fmt.Errorf("%s: %w", envName("failure-policy"), errFailurePolicy)
	}
	v := viper.New()
	for flag, key := range flagKeys {
		f := cmd.Flags().Lookup(flag)
		if f == nil {
			continue
		}
		if err := errors.Join(v.BindPFlag(key, f), v.BindEnv(key, envName(flag))); err != nil {
			return settings{}, err
		}
	}
	values, err := readFile(configFile(cmd))
	if err != nil {
		return settings{}, err
	}
	if err := v.MergeConfigMap(values); err != nil {
		return settings{}, err
	}
	var s settings
	if err := decode(v.AllSettings(), &s, lenient); err != nil {
		return settings{}, err
	}
	return s, nil
}

// defaultFile is read from the working folder when no file is named.
const defaultFile = "fusegate.yaml"

// configFile is the file named by flag or environment, else the default one if
// it is there. A variable that is set to nothing asks for no file at all.
func configFile(cmd *cobra.Command) string {
	named, _ := cmd.Flags().GetString("config")
	variable, set := os.LookupEnv(envName("config"))
	if file := cmp.Or(named, variable); file != "" || set {
		return file
	}
	if info, err := os.Stat(defaultFile); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	cmd.PrintErrln("Using the settings in ./" + defaultFile)
	return defaultFile
}

// base64Hook reads bytes as Kubernetes writes them.
func base64Hook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to != reflect.TypeFor[[]byte]() {
		return data, nil
	}
	return base64.StdEncoding.DecodeString(data.(string))
}

// errFailurePolicy answers those who look for the one setting that is not there.
var errFailurePolicy = install.Refuse(errors.New("failurePolicy is not a setting: Fusegate's webhooks always have failurePolicy Ignore, " +
	"since a webhook that fails closed can stop the control plane; for a rule that must never be skipped " +
	"use a ValidatingAdmissionPolicy, which runs inside the API server"))

// errNarrower answers those who want the control plane's own judged.
var errNarrower = install.Refuse(errors.New("what is exempt can only be widened: the control plane's own namespaces, users and resources are never judged, " +
	"since a policy that stops them can stop the cluster; to guard kube-system itself " +
	"use a ValidatingAdmissionPolicy, which runs inside the API server, and to exempt more use exempt"))

// narrows tells names that other engines have for taking part in the choice of
// what is judged.
func narrows(name string) bool {
	name = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
	return slices.ContainsFunc([]string{"selector", "matchcondition", "matchpolicy", "systemnamespace", "include", "judge", "enforceon"},
		func(part string) bool { return strings.Contains(name, part) })
}

// refuse explains why a key is no setting.
func refuse(key string) error {
	parent, name, nested := strings.Cut(key, ".")
	if !nested {
		parent, name = "", key
	}
	if strings.EqualFold(strings.NewReplacer("-", "", "_", "").Replace(name), "failurePolicy") {
		return errFailurePolicy
	}
	if narrows(name) {
		return fmt.Errorf("key %q: %w", key, errNarrower)
	}
	if nested && parent == "exempt" {
		return fmt.Errorf("unknown key %q: the keys of exempt are %s", key, strings.Join(keys(reflect.TypeFor[exempt.Options]()), ", "))
	}
	return fmt.Errorf("unknown key %q: the keys are %s", key, strings.Join(keys(reflect.TypeFor[settings]()), ", "))
}

// keys lists the keys that a struct has in a file.
func keys(t reflect.Type) []string {
	var out []string
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
