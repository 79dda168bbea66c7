package app

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
)

// samples has a value of every setting that is possible and not the default.
// Every field of exempt.Options is set, but for what follows from the namespace.
func samples(t *testing.T) config.Config {
	t.Helper()
	return config.Config{
		Namespace: "policy", Image: "registry.example.com:5000/fusegate:v9", ServicePort: 8443, WebhookSources: []string{"192.0.2.0/28", "2001:db8::/64"},
		WebhookURL: "https://192.0.2.1:9443", CABundle: []byte(read(t, "..", "..", "..", "pkg", "install", "testdata", "ca.pem")), CAFile: "ca.crt",
		TimeoutSeconds: 2, WebhookReplicas: 5, ControllerReplicas: 1,
		Exempt: exempt.Options{
			Namespaces: []string{"calico-system", "rook-*"}, Users: []string{"o'brien, jane"}, Groups: []string{"oidc:platform"},
			ServiceAccounts: []string{"ci/deployer"}, Controllers: []string{"acs:control"}, Provider: "eks",
			KubeSystemAccounts: exempt.ControllerManagerOnly, OwnServiceAccounts: []string{"fusegate-extra"},
		},
		APIServers: []string{"https://192.0.2.1:6443/a,b", "https://192.0.2.2:6443"}, InventorySecrets: true,
		AuditLimit: 500, AuditResync: 90 * time.Second, AuditWorkers: 2147483647, CheckEvery: new(int32(0)),
		MaxObjectBytes: 1 << 20, MaxObjectContainers: 50, MaxObjectDepth: 200,
		Reports: []string{"openreports", "policyreport"}, ReportLimit: 100_000,
		ClientCA: []byte(read(t, "..", "..", "..", "pkg", "install", "testdata", "ca.pem")), ClientNames: []string{"api-server", "a,b"},
		LogDenies: true, LogLevel: "debug", LogFormat: "console",
		Kubeconfig: "/etc/a b.conf", Context: "production", Roles: []string{"webhook"}, PodName: "me",
		Listen: "127.0.0.1:1", MetricsListen: "0", HealthListen: "127.0.0.1:2", CertDir: "/certs", RotateCerts: true,
	}
}

// companions are what a setting needs beside it to be possible.
var companions = map[string][]string{"webhookURL": {"caBundle"}, "caBundle": {"webhookURL"}, "caFile": {"webhookURL"}, "clientCA": {"clientNames"}, "clientNames": {"clientCA"}}

// TestNoSettingIsLost sets every field of config.Config in the file, in the
// environment and by flag, and wants to find it in the process: by way of the
// installation's ConfigMap, or directly where it is each process's own.
func TestNoSettingIsLost(t *testing.T) {
	sample := samples(t)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		s, ok := config.Find(key)
		if !ok {
			t.Errorf("%s has no row in config.Settings", field.Name)
			continue
		}
		value := s.Of(sample)
		if cmp.Equal(value, s.Of(unset())) {
			t.Errorf("%s: the sample is the default: give it another value here", key)
		}
		if s.PerProcess == "" && !reportsKey(t, sample, key) {
			t.Errorf("%s is not in the ConfigMap, and config.Settings does not say why", key)
		}
		for _, source := range []string{"file", "variable", "flag"} {
			if s.Flag == "" && source != "file" {
				continue // FileOnly says why
			}
			t.Run(key+" by "+source, func(t *testing.T) {
				got := throughConfigMap
				if s.PerProcess != "" {
					got = directly
				}
				if diff := cmp.Diff(value, s.Of(got(t, s, source, sample)), cmpopts.IgnoreFields(exempt.Options{}, "OwnNamespace")); diff != "" {
					t.Errorf("lost on the way (-set +in the process):\n%s", diff)
				}
			})
		}
	}
}

// TestSamplesAreComplete wants samples to have every exemption.
func TestSamplesAreComplete(t *testing.T) {
	v := reflect.ValueOf(samples(t).Exempt)
	for _, f := range reflect.VisibleFields(v.Type()) {
		if f.Name != "OwnNamespace" && v.FieldByIndex(f.Index).IsZero() {
			t.Errorf("samples do not set exempt.%s", f.Name)
		}
	}
}

// reportsKey reports whether the ConfigMap has the key even where nothing is
// set.
func reportsKey(t *testing.T, sample config.Config, key string) bool {
	t.Helper()
	text, err := config.Config{Image: sample.Image}.YAML()
	var values map[string]any
	if err != nil || yaml.Unmarshal(text, &values) != nil {
		t.Fatal(err)
	}
	_, ok := values[key]
	return ok
}

// throughConfigMap sets s for manifests, and reads the ConfigMap that it prints
// as the pods do.
func throughConfigMap(t *testing.T, s config.Setting, source string, sample config.Config) config.Config {
	t.Helper()
	args := set(t, s, source, sample)
	stdout, _, err := execute(t, append([]string{"manifests"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range config.Settings() { // pods have an environment of their own
		t.Setenv(config.Variable(setting.Flag), "")
	}
	t.Setenv("FUSEGATE_CONFIG", "")
	return loaded(t, newServe(), "--roles=controller", "--config", configuration(t, mounted(t, stdout)), "--cert-dir=/run/fusegate/certs", "--rotate-certs").Config
}

// directly sets s for the first command that has it.
func directly(t *testing.T, s config.Setting, source string, sample config.Config) config.Config {
	t.Helper()
	cmd := map[config.Command]func() *cobra.Command{config.Install: newInstall, config.Serve: newServe}[s.Commands[0]]()
	return loaded(t, cmd, set(t, s, source, sample)...).Config
}

// set says s by the source, and what must stand beside it in the file, and
// returns the arguments.
func set(t *testing.T, s config.Setting, source string, sample config.Config) []string {
	t.Helper()
	in := companions[s.Key]
	args := []string{}
	text := ""
	switch source {
	case "file":
		in = append(slices.Clone(in), s.Key)
	case "variable":
		t.Setenv(config.Variable(s.Flag), onLine(s.Of(sample)))
	case "flag":
		args = append(args, "--"+s.Flag+"="+onLine(s.Of(sample)))
	}
	for _, key := range in {
		setting, _ := config.Find(key)
		text += inFile(t, key, setting.Of(sample))
	}
	t.Setenv("FUSEGATE_CONFIG", "")
	return append(args, "--config", configuration(t, "---\n"+text))
}

// onLine is a value as flags and variables have it.
func onLine(value any) string {
	list, ok := value.([]string)
	if !ok {
		return fmt.Sprint(value)
	}
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v
		if strings.Contains(v, ",") {
			out[i] = `"` + v + `"`
		}
	}
	return strings.Join(out, ",")
}

// inFile is a line of a file.
func inFile(t *testing.T, key string, value any) string {
	t.Helper()
	switch v := value.(type) {
	case time.Duration:
		value = v.String()
	case []byte:
		value = base64.StdEncoding.EncodeToString(v)
	}
	text, err := yaml.Marshal(map[string]any{key: value})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
