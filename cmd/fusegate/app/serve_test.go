package app

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

func TestCheck(t *testing.T) {
	good := func(change func(*settings)) settings {
		s := settings{Roles: []string{"webhook", "controller"}, CertDir: "certs", Listen: ":9443", MetricsListen: ":8080", HealthListen: "127.0.0.1:8081"}
		change(&s)
		return s
	}
	for name, tc := range map[string]struct {
		reason   string
		settings settings
		want     string
	}{
		"both roles":       {reason: "what the flags' defaults give, and a certificate", settings: good(func(*settings) {})},
		"webhook":          {reason: "one role is enough", settings: good(func(s *settings) { s.Roles = []string{"webhook"} })},
		"controller":       {reason: "it has no certificate and listens nowhere", settings: good(func(s *settings) { s.Roles, s.CertDir, s.Listen = []string{"controller"}, "", "" })},
		"nothing to watch": {reason: "0 is for no server", settings: good(func(s *settings) { s.MetricsListen, s.HealthListen = "0", "0" })},
		"rotation":         {reason: "the controller makes the certificate", settings: good(func(s *settings) { s.RotateCerts = true })},
		"no role":          {reason: "there would be nothing to do", settings: good(func(s *settings) { s.Roles = nil }), want: "--roles is empty: name webhook, controller or both"},
		"unknown role":     {reason: "roles are these two", settings: good(func(s *settings) { s.Roles = []string{"audit"} }), want: `--roles: "audit" is not a role: use webhook, controller or both`},
		"no certificate":   {reason: "the API server speaks only https", settings: good(func(s *settings) { s.CertDir = "" }), want: "--cert-dir is empty: name the directory that holds tls.crt and tls.key"},
		"rotation without controller": {
			reason:   "only the leader makes certificates",
			settings: good(func(s *settings) { s.Roles, s.RotateCerts = []string{"webhook"}, true }),
			want:     "--rotate-certs needs the role controller",
		},
		"rotation alone": {
			reason:   "the controller keeps certificates in Secrets, and mounts none",
			settings: good(func(s *settings) { s.Roles, s.CertDir, s.RotateCerts = []string{"controller"}, "", true }),
		},
		"addresses": {
			reason:   "all that is wrong, before anything is started",
			settings: good(func(s *settings) { s.Listen, s.MetricsListen, s.HealthListen = ":0", "8080", ":x" }),
			want: `--listen: "0" is not a port from 1 to 65535` + "\n" +
				`--metrics-listen: "8080" is not host:port: address 8080: missing port in address; 0 is for none` + "\n" +
				`--health-listen: "x" is not a port from 1 to 65535; 0 is for none`,
		},
		"exemption": {
			reason:   "the webhook checks the perimeter too, so it has to be possible",
			settings: good(func(s *settings) { s.Exempt.Namespaces = []string{"*"} }),
			want:     `exempt: namespaces[0]: "*": would exempt every namespace; name those that need it`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := tc.settings.check(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestServeReadsWhatInstallWrites takes the ConfigMap for the file that it is
// mounted as.
func TestServeReadsWhatInstallWrites(t *testing.T) {
	for name, tc := range map[string]struct{ reason, file string }{
		"defaults": {reason: "nothing is said"},
		"everything": {reason: "every key that install knows", file: `
namespace: policy
image: registry.example.com/fusegate:v1
timeoutSeconds: 2
webhookReplicas: 5
controllerReplicas: 1
exempt:
  namespaces: [calico-system, "rook-*"]
  users: [alice]
  groups: ["oidc:platform"]
  serviceAccounts: [ci/deployer]
  controllers: ["acs:control"]
  provider: eks
  kubeSystemAccounts: ControllerManagerOnly
  ownServiceAccounts: [fusegate-extra]
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FUSEGATE_CONFIG", configuration(t, tc.file))
			stdout, stderr, err := execute(t, "manifests")
			if err != nil || stderr != "" {
				t.Fatalf("%s: manifests: %v %s", tc.reason, err, stderr)
			}
			text := mounted(t, stdout)
			want, err := install.ParseConfig([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("FUSEGATE_CONFIG", "")
			got := loaded(t, newServe(), "--config", configuration(t, text), "--cert-dir=certs")
			if err := got.check(); err != nil {
				t.Errorf("%s: serve refuses it: %v", tc.reason, err)
			}
			if diff := cmp.Diff(want, got.Config, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: configuration (-installed +served):\n%s", tc.reason, diff)
			}
			if want.Namespace == "" || tc.file != "" && cmp.Equal(want.Exempt, exempt.Options{}) {
				t.Errorf("%s: the ConfigMap holds too little: %s", tc.reason, text)
			}
		})
	}
}

// mounted is the file in the ConfigMap among manifests.
func mounted(t *testing.T, manifests string) string {
	t.Helper()
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		var object struct {
			Kind string
			Data map[string]string
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if object.Kind == "ConfigMap" {
			return object.Data[install.ConfigKey]
		}
	}
	t.Fatal("there is no ConfigMap")
	return ""
}

func TestServeWaitsForTheAPIServer(t *testing.T) {
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	dead := configuration(t, fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://127.0.0.1:%d"}}]
contexts: [{name: a, context: {cluster: a}}]
current-context: a
`, port))
	m := (&testCluster{}).serve(t, "lonely", "--kubeconfig", dead, "--roles=controller")
	await(t, "the log to say what it waits for", func() error {
		if log := m.log.String(); !strings.Contains(log, "waiting for the API server") || !strings.Contains(log, "connection refused") {
			return fmt.Errorf("got %s", log)
		}
		return nil
	})
	if err := m.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestServeOnBusyPort(t *testing.T) {
	c := start(t)
	m := c.run(t, "crowded", c.port)
	if err := m.cmd.Wait(); err == nil {
		t.Error("it ended well")
	}
	want := fmt.Sprintf("Error: listen tcp 127.0.0.1:%d: bind: address already in use", c.port)
	if lines := strings.Split(m.log.String(), "\n"); !slices.Contains(lines, want) {
		t.Errorf("got %s, want the last line %q", m.log, want)
	}
}

func TestServeWithoutCertificate(t *testing.T) {
	c := start(t)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	m := c.serve(t, "bare", "--kubeconfig", c.cp.Kubeconfig("admin"), "--roles=webhook",
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--cert-dir", filepath.Join(t.TempDir(), "none"))
	await(t, "the log to say what it waits for", func() error {
		if log := m.log.String(); !strings.Contains(log, "waiting for the serving certificate") || !strings.Contains(log, "none/tls.crt") {
			return fmt.Errorf("got %s", log)
		}
		return nil
	})
	if err := m.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}
