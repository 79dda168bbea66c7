package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fusegate/fusegate/pkg/install"
)

// settings are everything that a flag, the environment or the configuration
// file can say. The file's keys are the json names; a command looks at those
// that concern it.
type settings struct {
	install.Config
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Context    string `json:"context,omitempty"`

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
}

// flagKeys are the keys of the flags that are settings, by flag.
var flagKeys = map[string]string{
	"namespace": "namespace", "image": "image", "webhook-url": "webhookURL",
	"timeout-seconds": "timeoutSeconds", "kubeconfig": "kubeconfig", "context": "context",
	"roles": "roles", "pod-name": "podName", "listen": "listen", "cert-dir": "certDir",
	"rotate-certs": "rotateCerts", "metrics-listen": "metricsListen", "health-listen": "healthListen",
	"log-denies": "logDenies", "log-level": "logLevel", "log-format": "logFormat",
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "FUSEGATE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func configFlag(fs *pflag.FlagSet) {
	fs.String("config", "", "configuration `file` in YAML, its keys the settings' names (env FUSEGATE_CONFIG)")
}

func clusterFlags(fs *pflag.FlagSet) {
	fs.String("kubeconfig", "", "kubeconfig `file`; empty for $KUBECONFIG, the default file or the pod's service account")
	fs.String("context", "", "context of the kubeconfig")
}

// load reads the settings of a command: flag, then environment, then file,
// then the flag's default.
func load(cmd *cobra.Command) (settings, error) {
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
	if err := readFile(cmd, v); err != nil {
		return settings{}, err
	}
	var s settings
	if err := decodeSettings(v.AllSettings(), &s); err != nil {
		return settings{}, err
	}
	return s, nil
}

func readFile(cmd *cobra.Command, v *viper.Viper) error {
	file, _ := cmd.Flags().GetString("config")
	if file == "" {
		file = os.Getenv("FUSEGATE_CONFIG")
	}
	if file == "" {
		return nil
	}
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		return fmt.Errorf("reading configuration file %s: %w", file, err)
	}
	return unknownKeys(file, v)
}

// unknownKeys refuses what is not a setting. A typing error must not leave an
// exemption out unnoticed.
func unknownKeys(file string, v *viper.Viper) error {
	in := viper.New()
	in.SetConfigFile(file)
	in.SetConfigType("yaml")
	if err := in.ReadInConfig(); err != nil {
		return fmt.Errorf("reading configuration file %s: %w", file, err)
	}
	var s settings
	if err := decodeSettings(in.AllSettings(), &s); err != nil {
		return fmt.Errorf("configuration file %s: %w", file, err)
	}
	return nil
}

func decodeSettings(in map[string]any, out *settings) error {
	var meta mapstructure.Metadata
	dec, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: out, Metadata: &meta, TagName: "json", Squash: true, WeaklyTypedInput: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(base64Hook, mapstructure.StringToSliceHookFunc(",")),
	})
	if err != nil {
		return err
	}
	if err := dec.Decode(in); err != nil {
		return err
	}
	slices.Sort(meta.Unused)
	for _, key := range meta.Unused {
		return refuse(key)
	}
	return nil
}

// base64Hook reads bytes as Kubernetes writes them.
func base64Hook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to != reflect.TypeFor[[]byte]() {
		return data, nil
	}
	return base64.StdEncoding.DecodeString(data.(string))
}

// refuse explains why a key is no setting.
func refuse(key string) error {
	if strings.EqualFold(key, "failurePolicy") {
		return errors.New("failurePolicy is not a setting: Fusegate's webhooks always have failurePolicy Ignore, " +
			"since a webhook that fails closed can stop the control plane; for a rule that must never be skipped " +
			"use a ValidatingAdmissionPolicy, which runs inside the API server")
	}
	known := []string{}
	t := reflect.TypeFor[settings]()
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			known = append(known, name)
		}
	}
	slices.Sort(known)
	return fmt.Errorf("unknown key %q: the keys are %s", key, strings.Join(known, ", "))
}

// restConfig connects to the cluster.
func (s settings) restConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = s.Kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: s.Context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	cfg.UserAgent = "fusegate/" + version
	// The API server's own priority and fairness bound what we may ask.
	cfg.QPS = -1
	return cfg, nil
}
