package app

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

// execute runs a command of fusegate in this process.
func execute(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errOut)
	err = root.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

// configuration writes a configuration file.
func configuration(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fusegate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// loaded returns the settings of a command with these arguments.
func loaded(t *testing.T, cmd *cobra.Command, args ...string) settings {
	t.Helper()
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	s, err := load(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPrecedence(t *testing.T) {
	const file = `
namespace: from-file
timeoutSeconds: 1
webhookReplicas: 7
roles: [webhook]
logDenies: true
exempt:
  namespaces: [calico-system, "rook-*"]
  provider: eks
`
	exemptions := exempt.Options{Namespaces: []string{"calico-system", "rook-*"}, Provider: "eks"}
	for name, tc := range map[string]struct {
		reason  string
		command func() *cobra.Command
		args    []string
		env     map[string]string
		file    string
		want    settings
	}{
		"defaults of serve": {
			reason:  "nothing given: the flags' defaults",
			command: newServe,
			want:    settings{Roles: []string{"webhook", "controller"}},
		},
		"file over default": {
			reason:  "a key of the file wins over the flag's default, whatever its type",
			command: newServe, file: file,
			want: settings{
				Config: install.Config{Namespace: "from-file", TimeoutSeconds: 1, WebhookReplicas: 7, Exempt: exemptions},
				Roles:  []string{"webhook"}, LogDenies: true,
			},
		},
		"environment over file": {
			reason:  "the environment wins over the file; a list has commas; what it does not say stays the file's",
			command: newServe, file: file,
			env: map[string]string{"FUSEGATE_NAMESPACE": "from-env", "FUSEGATE_ROLES": "controller,webhook", "FUSEGATE_LOG_DENIES": "false"},
			want: settings{
				Config: install.Config{Namespace: "from-env", TimeoutSeconds: 1, WebhookReplicas: 7, Exempt: exemptions},
				Roles:  []string{"controller", "webhook"},
			},
		},
		"flag over environment": {
			reason:  "a flag wins over everything, also where it says what the default says",
			command: newServe, file: file,
			env:  map[string]string{"FUSEGATE_NAMESPACE": "from-env", "FUSEGATE_ROLES": "controller", "FUSEGATE_LOG_DENIES": "true"},
			args: []string{"--namespace=from-flag", "--roles=webhook,controller", "--log-denies=false"},
			want: settings{
				Config: install.Config{Namespace: "from-flag", TimeoutSeconds: 1, WebhookReplicas: 7, Exempt: exemptions},
				Roles:  []string{"webhook", "controller"},
			},
		},
		"integer from the environment": {
			reason:  "a number of the environment is text and becomes a number",
			command: newManifests, file: file,
			env:  map[string]string{"FUSEGATE_TIMEOUT_SECONDS": "2"},
			want: settings{Config: install.Config{Namespace: "from-file", TimeoutSeconds: 2, WebhookReplicas: 7, Exempt: exemptions}, Roles: []string{"webhook"}, LogDenies: true},
		},
		"integer from a flag": {
			reason:  "a flag wins over the environment's number",
			command: newManifests,
			env:     map[string]string{"FUSEGATE_TIMEOUT_SECONDS": "2"},
			args:    []string{"--timeout-seconds=3"},
			want:    settings{Config: install.Config{TimeoutSeconds: 3}},
		},
		"empty variable": {
			reason:  "a variable that is set to nothing says nothing",
			command: newManifests, file: file,
			env:  map[string]string{"FUSEGATE_NAMESPACE": ""},
			want: settings{Config: install.Config{Namespace: "from-file", TimeoutSeconds: 1, WebhookReplicas: 7, Exempt: exemptions}, Roles: []string{"webhook"}, LogDenies: true},
		},
		"file of comments": {
			reason:  "a file that says nothing is no mistake",
			command: newManifests, file: "---\n# nothing yet\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range tc.env {
				t.Setenv(key, value)
			}
			if tc.file != "" {
				t.Setenv("FUSEGATE_CONFIG", configuration(t, tc.file))
			}
			got := loaded(t, tc.command(), tc.args...)
			defaults := cmpopts.IgnoreFields(settings{}, "Listen", "MetricsListen", "HealthListen", "LogLevel", "LogFormat",
				"AuditLimit", "AuditResync", "AuditWorkers", "CheckEvery")
			if diff := cmp.Diff(tc.want, got, defaults, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestDefaultFile has a fusegate.yaml in the working folder.
func TestDefaultFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("fusegate.yaml", []byte("namespace: from-default\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		reason string
		env    map[string]string
		args   []string
		want   string
	}{
		"read":       {reason: "it is read when no file is named", want: "from-default"},
		"named":      {reason: "a named file is read in its place", args: []string{"--config", configuration(t, "namespace: from-named\n")}, want: "from-named"},
		"overridden": {reason: "the environment wins over it", env: map[string]string{"FUSEGATE_NAMESPACE": "from-env"}, want: "from-env"},
		"declined":   {reason: "an empty variable asks for no file", env: map[string]string{"FUSEGATE_CONFIG": ""}, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range tc.env {
				t.Setenv(key, value)
			}
			if got := loaded(t, newManifests(), tc.args...).Namespace; got != tc.want {
				t.Errorf("%s: namespace %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

// consents are the flags that are for one run and deliberately neither in the
// environment nor in a file.
var consents = []string{
	"delete-policies", "dry-run", "force-conflicts", "help", "import-gatekeeper-config", "keep", "output", "policies",
	"take-over-crds", "timeout", "wait",
}

// TestEveryFlagHasAVariable sets each flag that is a setting by its variable.
func TestEveryFlagHasAVariable(t *testing.T) {
	seen := map[string]bool{}
	for _, cmd := range newRoot().Commands() {
		if cmd.Flags().Lookup("config") == nil {
			continue // works on files or once from outside, and has no settings
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if _, setting := flagKeys[f.Name]; setting {
				seen[f.Name] = true
				t.Run(cmd.Name()+" "+f.Name, func(t *testing.T) { checkVariable(t, cmd, f) })
				return
			}
			if f.Name != "config" && !slices.Contains(consents, f.Name) {
				t.Errorf("%s --%s is neither a setting in flagKeys nor a consent to one run", cmd.Name(), f.Name)
			}
		})
	}
	for flag := range flagKeys {
		if !seen[flag] {
			t.Errorf("flagKeys has %s, but no command has that flag", flag)
		}
	}
}

func checkVariable(t *testing.T, cmd *cobra.Command, f *pflag.Flag) {
	t.Helper()
	value := map[string]string{"int32": "2", "bool": "true", "stringSlice": "a,b", "string": "a", "duration": "90s"}[f.Value.Type()]
	t.Setenv(envName(f.Name), value)
	got := setting(loaded(t, cmd), flagKeys[f.Name])
	want := map[string]any{"int32": int32(2), "bool": true, "stringSlice": []string{"a", "b"}, "string": "a", "duration": 90 * time.Second}[f.Value.Type()]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s=%s: (-want +got):\n%s", envName(f.Name), value, diff)
	}
}

// setting is the value of a key.
func setting(s settings, key string) any {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[settings]()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == key {
			return reflect.ValueOf(s).FieldByIndex(f.Index).Interface()
		}
	}
	return nil
}

// TestEveryKeyHasAFlag keeps a setting from being reachable by file only.
func TestEveryKeyHasAFlag(t *testing.T) {
	want := []string{"caBundle", "exempt"} // too big for a flag
	for _, key := range flagKeys {
		want = append(want, key)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, keys(reflect.TypeFor[settings]())); diff != "" {
		t.Errorf("keys (-with a flag +of the file):\n%s", diff)
	}
}

// TestDocumentation loads the example of docs/install.md, and wants every key
// to be mentioned there.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "## Settings")
	_, example, yes := strings.Cut(section, "```yaml\n")
	if !found || !yes {
		t.Fatal("there is no example")
	}
	example, _, _ = strings.Cut(example, "```")
	if _, _, err := execute(t, "manifests", "--config", configuration(t, example)); err != nil {
		t.Errorf("the example is refused: %v", err)
	}
	documented := append(keys(reflect.TypeFor[settings]()), "FUSEGATE_CONFIG")
	for _, key := range documented {
		if !strings.Contains(string(page), "`"+key+"`") {
			t.Errorf("%s is not mentioned", key)
		}
	}
}
