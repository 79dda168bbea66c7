package app

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
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
	// fromFile are the settings of the file, but for what differs.
	fromFile := func(change func(*config.Config)) config.Config {
		c := config.Config{
			Namespace: "from-file", TimeoutSeconds: 1, WebhookReplicas: 7, Roles: []string{"webhook"}, LogDenies: true,
			Exempt: exempt.Options{Namespaces: []string{"calico-system", "rook-*"}, Provider: "eks"},
		}
		change(&c)
		return c
	}
	for name, tc := range map[string]struct {
		reason  string
		command func() *cobra.Command
		args    []string
		env     map[string]string
		file    string
		want    config.Config
	}{
		"defaults of serve": {reason: "nothing given: the defaults", command: newServe},
		"file over default": {
			reason:  "a key of the file wins over the flag's default, whatever its type",
			command: newServe, file: file,
			want: fromFile(func(*config.Config) {}),
		},
		"environment over file": {
			reason:  "the environment wins over the file; a list has commas; what it does not say stays the file's",
			command: newServe, file: file,
			env: map[string]string{"FUSEGATE_NAMESPACE": "from-env", "FUSEGATE_ROLES": "controller,webhook", "FUSEGATE_LOG_DENIES": "false"},
			want: fromFile(func(c *config.Config) {
				c.Namespace, c.Roles, c.LogDenies = "from-env", []string{"controller", "webhook"}, false
			}),
		},
		"flag over environment": {
			reason:  "a flag wins over everything, also where it says what the default says",
			command: newServe, file: file,
			env:  map[string]string{"FUSEGATE_NAMESPACE": "from-env", "FUSEGATE_ROLES": "controller", "FUSEGATE_LOG_DENIES": "true"},
			args: []string{"--namespace=from-flag", "--roles=webhook,controller", "--log-denies=false"},
			want: fromFile(func(c *config.Config) {
				c.Namespace, c.Roles, c.LogDenies = "from-flag", []string{"webhook", "controller"}, false
			}),
		},
		"integer from the environment": {
			reason:  "a number of the environment is text and becomes a number",
			command: newManifests, file: file,
			env:  map[string]string{"FUSEGATE_TIMEOUT_SECONDS": "2"},
			want: fromFile(func(c *config.Config) { c.TimeoutSeconds = 2 }),
		},
		"integer from a flag": {
			reason:  "a flag wins over the environment's number",
			command: newManifests,
			env:     map[string]string{"FUSEGATE_TIMEOUT_SECONDS": "2"},
			args:    []string{"--timeout-seconds=3"},
			want:    config.Config{TimeoutSeconds: 3},
		},
		"empty variable": {
			reason:  "a variable that is set to nothing says nothing",
			command: newManifests, file: file,
			env:  map[string]string{"FUSEGATE_NAMESPACE": ""},
			want: fromFile(func(*config.Config) {}),
		},
		"file of comments": {
			reason:  "a file that says nothing is no mistake",
			command: newManifests, file: "---\n# nothing yet\n",
		},
		"no role": {
			reason:  "a list that is empty is not one that is left out",
			command: newServe, file: "roles: []", want: config.Config{Roles: []string{}},
		},
		"no role by flag": {
			reason:  "whatever says it",
			command: newServe, args: []string{"--roles="}, want: config.Config{Roles: []string{}},
		},
		"no checks": {
			reason:  "0 is not the default of checks",
			command: newServe, args: []string{"--check-every=0"}, file: "checkEvery: 7", want: config.Config{CheckEvery: new(int32(0))},
		},
		"no checks by variable": {
			reason:  "whatever says it",
			command: newServe, env: map[string]string{"FUSEGATE_CHECK_EVERY": "0"}, want: config.Config{CheckEvery: new(int32(0))},
		},
		"a comma in a variable": {
			reason:  "is written as in a flag",
			command: newServe, env: map[string]string{"FUSEGATE_API_SERVERS": `"https://192.0.2.1/a,b",https://192.0.2.2`},
			want: config.Config{APIServers: []string{"https://192.0.2.1/a,b", "https://192.0.2.2"}},
		},
		"a file of Windows": {
			reason:  "is the same file",
			command: newServe, file: "\ufeffapiVersion: config.fusegate.dev/v1alpha1\r\nkind: Configuration\r\nauditResync: 90s\r\n",
			want: config.Config{AuditResync: 90 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range tc.env {
				t.Setenv(key, value)
			}
			t.Setenv("FUSEGATE_CONFIG", "")
			if tc.file != "" {
				t.Setenv("FUSEGATE_CONFIG", configuration(t, tc.file))
			}
			got := loaded(t, tc.command(), tc.args...)
			if diff := cmp.Diff(tc.want.WithDefaults(), got.Config, cmpopts.EquateEmpty()); diff != "" {
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
		"declined":   {reason: "an empty variable asks for no file", env: map[string]string{"FUSEGATE_CONFIG": ""}, want: exempt.DefaultNamespace},
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

// TestEveryFlagIsKnown wants each flag of a command that reads settings to be
// one of them, or deliberately not.
func TestEveryFlagIsKnown(t *testing.T) {
	settings := []string{"config"}
	for _, s := range config.Settings() {
		settings = append(settings, s.Flag)
	}
	for _, cmd := range newRoot().Commands() {
		if cmd.Flags().Lookup("config") == nil {
			continue // works on files or once from outside, and has no settings
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !slices.Contains(settings, f.Name) && !slices.Contains(consents, f.Name) {
				t.Errorf("%s --%s is neither a setting nor a consent to one run", cmd.Name(), f.Name)
			}
		})
	}
}

// TestFlagsShowDefaults wants the help to say what is in force without a flag.
func TestFlagsShowDefaults(t *testing.T) {
	for _, cmd := range newRoot().Commands() {
		for _, s := range config.Settings() {
			f := cmd.Flags().Lookup(s.Flag)
			if f == nil || !slices.Contains(s.Commands, config.Command(cmd.Name())) {
				continue
			}
			got, err := config.Merged(map[string]any{s.Key: strings.Trim(f.DefValue, "[]")})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s.Of(unset()), s.Of(got), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s --%s (-in force +shown):\n%s", cmd.Name(), s.Flag, diff)
			}
		}
	}
}

// TestDocumentation loads the examples of docs/install.md, and compares the
// tables there with the settings.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "## Settings")
	examples := strings.Split(section, "```yaml\n")[1:]
	if !found || len(examples) == 0 {
		t.Fatal("there is no example")
	}
	for _, example := range examples {
		example, _, _ = strings.Cut(example, "```")
		if _, _, err := execute(t, "manifests", "--config", configuration(t, example)); err != nil {
			t.Errorf("the example is refused: %v\n%s", err, example)
		}
	}
	documented := map[string][]string{} // the cells of each key's row
	for line := range strings.SplitSeq(section, "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.HasPrefix(line, "| `") {
			key := strings.Trim(cells[1], " `")
			if documented[key] != nil {
				t.Errorf("%s has two rows", key)
			}
			documented[key] = cells
		}
	}
	for _, s := range config.Settings() {
		cells, ok := documented[s.Key]
		if !ok {
			t.Errorf("%s has no row", s.Key)
			continue
		}
		checkRow(t, s, cells)
		delete(documented, s.Key)
	}
	for key := range documented {
		t.Errorf("%s has a row, and is no setting", key)
	}
	if !strings.Contains(section, "`FUSEGATE_CONFIG`") {
		t.Error("FUSEGATE_CONFIG is not mentioned")
	}
}

// checkRow compares the default, and for a process's own settings the reason.
func checkRow(t *testing.T, s config.Setting, cells []string) {
	t.Helper()
	text := ""
	switch v := s.Of(config.Default()).(type) {
	case []string:
		text = strings.Join(v, ",")
	case time.Duration:
		text = strings.TrimSuffix(v.String(), "0m0s")
	case string, bool, int32:
		text = fmt.Sprint(v)
	}
	if text != "" && strings.Trim(cells[2], " `") != text {
		t.Errorf("%s: the default is %s, and its row says %s", s.Key, text, cells[2])
	}
	if s.PerProcess != "" && !strings.Contains(cells[3], s.PerProcess) {
		t.Errorf("%s: its row does not say why it is not in the ConfigMap: %s", s.Key, s.PerProcess)
	}
}
