package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const timeoutRefusal = "use 1 to 3; when the webhook hangs, every write that it intercepts waits this long, and longer waits have stopped API servers from starting. " +
	"If policies need longer, make them cheaper; what was not judged in time is found by audit"

const failurePolicyRefusal = "failurePolicy is not a setting: Fusegate's webhooks always have failurePolicy Ignore, " +
	"since a webhook that fails closed can stop the control plane; for a rule that must never be skipped " +
	"use a ValidatingAdmissionPolicy, which runs inside the API server"

const topKeys = "the keys are apiServers, auditLimit, auditResync, auditWorkers, caBundle, caFile, certDir, checkEvery, clientCA, clientNames, context, " +
	"controllerReplicas, exempt, healthListen, image, inventorySecrets, kubeconfig, listen, logDenies, logFormat, logLevel, " +
	"maxObjectBytes, maxObjectContainers, maxObjectDepth, metricsListen, namespace, podName, reportLimit, reports, roles, rotateCerts, servicePort, timeoutSeconds, webhookReplicas, webhookSources, webhookURL"

const exemptKeys = "the keys of exempt are controllers, groups, kubeSystemAccounts, namespaces, ownNamespace, ownServiceAccounts, provider, serviceAccounts, users"

// TestRefusals has the exact words for what is not possible. FILE stands for
// the configuration file, DIR for an empty folder.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, file string
		args         []string
		env          map[string]string
		want         string
	}{
		"unknown key": {
			reason: "a typing error must not go unnoticed",
			file:   "timeoutSecond: 2", want: `configuration file FILE: unknown key "timeoutSecond": ` + topKeys,
		},
		"unknown nested key": {
			reason: "least of all in an exemption",
			file:   "exempt: {namespace: [a]}", want: `configuration file FILE: unknown key "exempt.namespace": ` + exemptKeys,
		},
		"wrong case": {
			reason: "what is meant is named",
			file:   "exempt: {nameSpaces: [a]}", want: `configuration file FILE: unknown key "exempt.nameSpaces": write it exempt.namespaces`,
		},
		"unknown version": {
			reason: "what it means is not known",
			file:   "apiVersion: config.fusegate.dev/v2\nkind: Configuration\n",
			want:   `configuration file FILE: apiVersion: "config.fusegate.dev/v2": is not a version of the settings that this fusegate reads; write config.fusegate.dev/v1alpha1, or use a fusegate that knows that version`,
		},
		"fail closed": {
			reason: "the one setting that there will never be is explained",
			file:   "failurePolicy: Fail", want: "configuration file FILE: " + failurePolicyRefusal,
		},
		"fail closed, nested": {
			reason: "wherever it stands",
			file:   "exempt: {failure_policy: Fail}", want: "configuration file FILE: " + failurePolicyRefusal,
		},
		"fail closed by flag":     {reason: "or as a flag", args: []string{"--failure-policy=Fail"}, want: failurePolicyRefusal},
		"fail closed by variable": {reason: "or in the environment", env: map[string]string{"FUSEGATE_FAILURE_POLICY": "Fail"}, want: "FUSEGATE_FAILURE_POLICY: " + failurePolicyRefusal},
		"timeout in the file":     {reason: "3 s at most", file: "timeoutSeconds: 5", want: "validating the configuration: timeoutSeconds: 5: " + timeoutRefusal},
		"timeout by variable":     {reason: "3 s at most", env: map[string]string{"FUSEGATE_TIMEOUT_SECONDS": "10"}, want: "validating the configuration: timeoutSeconds: 10: " + timeoutRefusal},
		"timeout by flag":         {reason: "3 s at most", args: []string{"--timeout-seconds=4"}, want: "validating the configuration: timeoutSeconds: 4: " + timeoutRefusal},
		"no number":               {reason: "the type is said in words", file: "timeoutSeconds: two", want: `configuration file FILE: timeoutSeconds: "two": want a whole number`},
		"quoted number":           {reason: "text is no number, as everywhere in Kubernetes", file: `timeoutSeconds: "2"`, want: `configuration file FILE: timeoutSeconds: "2": want a whole number`},
		"fraction":                {reason: "2.7 is not silently 2", file: "timeoutSeconds: 2.7", want: "configuration file FILE: timeoutSeconds: 2.7: want a whole number"},
		"no text":                 {reason: "numbers among names are quoted", file: "exempt: {namespaces: [ok, 5]}", want: "configuration file FILE: exempt.namespaces[1]: 5: want text; put it in quotes"},
		"no truth":                {reason: "a bool is true or false", file: "logDenies: sometimes", want: `configuration file FILE: logDenies: "sometimes": want true or false`},
		"no number in a variable": {
			reason: "the variable is named, not the key",
			env:    map[string]string{"FUSEGATE_TIMEOUT_SECONDS": "two"}, want: `FUSEGATE_TIMEOUT_SECONDS: "two": want a whole number`,
		},
		"globs that exempt too much": {
			reason: "all that is wrong, at once",
			file:   `exempt: {namespaces: ["*", "a*b"]}`,
			want: `validating the configuration: exempt: namespaces[0]: "*": would exempt every namespace; name those that need it` + "\n" +
				`namespaces[1]: "a*b": is not a namespace glob; "*" may stand once, at the start or at the end, beside lower-case letters, digits and dashes, as in "team-*" or "*-system"`,
		},
		"no YAML": {
			reason: "the line is named",
			file:   "namespace: a\nroles: [b\n",
			want:   "configuration file FILE: error converting YAML to JSON: yaml: line 2: did not find expected ',' or ']'",
		},
		"key twice": {
			reason: "the second would win",
			file:   "namespace: a\nnamespace: b\n",
			want:   "configuration file FILE: error converting YAML to JSON: yaml: unmarshal errors:\n  line 2: key \"namespace\" already set in map",
		},
		"two documents": {
			reason: "the second would be ignored",
			file:   "namespace: a\n---\nexempt: {}\n", want: "configuration file FILE: holds more than one YAML document; only one is possible",
		},
		"a list":         {reason: "there is nothing to read", file: "- a", want: `configuration file FILE: holds no keys; write them as in "timeoutSeconds: 2"`},
		"missing file":   {reason: "it was named, so it is wanted", args: []string{"--config=DIR/none"}, want: "reading the configuration file: open DIR/none: no such file or directory"},
		"no certificate": {reason: "no API server would trust it", args: []string{"--webhook-url=https://a"}, want: "--webhook-url needs --ca-file: name the PEM file that the webhook's certificate is verified with, or set caBundle in the configuration file"},
		"certificate for nothing": {
			reason: "it would have no effect",
			env:    map[string]string{"FUSEGATE_CA_FILE": "ca.crt"},
			want:   "--ca-file is for --webhook-url, which is empty: leave it out, as Fusegate makes the certificate of its Service itself",
		},
		"two certificates": {
			reason: "one would win silently",
			file:   "caBundle: YQ==\nwebhookURL: https://a", args: []string{"--ca-file=ca.crt"},
			want: "--ca-file (caFile) and caBundle are both given: leave one out",
		},
		"unknown flag": {reason: "it says where the flags are", args: []string{"--nosuch"}, want: "unknown flag: --nosuch; see fusegate manifests --help"},
		"an argument":  {reason: "it would be ignored", args: []string{"extra"}, want: `fusegate manifests takes no arguments, and "extra" is one; see fusegate manifests --help`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "fusegate.yaml")
			args := []string{"manifests"}
			for _, a := range tc.args {
				args = append(args, strings.ReplaceAll(a, "DIR", dir))
			}
			if tc.file != "" {
				args = append(args, "--config="+file)
			}
			for key, value := range tc.env {
				t.Setenv(key, value)
			}
			if err := os.WriteFile(file, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			stdout, _, err := execute(t, args...)
			if err == nil || stdout != "" {
				t.Fatalf("%s: got %d bytes and error %v, want an error only", tc.reason, len(stdout), err)
			}
			got := strings.NewReplacer(file, "FILE", dir, "DIR").Replace(err.Error())
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestClusterRefusals(t *testing.T) {
	const dead = `
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: a, context: {cluster: a}}]
current-context: a
`
	const unreachable = `the API server at https://127.0.0.1:1 does not answer: Get "https://127.0.0.1:1/version?timeout=32s": ` +
		"dial tcp 127.0.0.1:1: connect: connection refused; check --kubeconfig and --context"
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("KUBECONFIG", none)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	file := configuration(t, dead)
	for name, tc := range map[string]struct {
		reason string
		args   []string
		want   string
	}{
		"no kubeconfig":      {reason: "the fix is named", args: []string{"install"}, want: "finding the cluster: there is no kubeconfig, or it is empty; name one with --kubeconfig or in KUBECONFIG"},
		"missing kubeconfig": {reason: "the flag is named", args: []string{"install", "--kubeconfig", none}, want: "finding the cluster: --kubeconfig: stat " + none + ": no such file or directory"},
		"unknown context":    {reason: "the fix is named", args: []string{"uninstall", "--kubeconfig", file, "--context=b"}, want: "finding the cluster: --context: context \"b\" does not exist; `kubectl config get-contexts` lists those there are"},
		"install, down":      {reason: "the address is named", args: []string{"install", "--kubeconfig", file}, want: unreachable},
		"uninstall, down":    {reason: "the address is named", args: []string{"uninstall", "--kubeconfig", file}, want: unreachable},
		"format":             {reason: "found out before the cluster is asked", args: []string{"install", "-o", "yaml"}, want: `--output "yaml": use json, or leave it out`},
		"format of version":  {reason: "the same words", args: []string{"version", "-o", "yaml"}, want: `--output "yaml": use json, or leave it out`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := execute(t, tc.args...)
			if err == nil {
				t.Fatalf("%s: got no error", tc.reason)
			}
			if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
