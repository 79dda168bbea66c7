package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/config"
)

func TestValidateProcess(t *testing.T) {
	good := func(change func(*config.Config)) config.Config {
		c := config.Config{CertDir: "certs"}
		change(&c)
		return c
	}
	for name, tc := range map[string]struct {
		reason string
		config config.Config
		want   string
	}{
		"both roles":       {reason: "what the defaults give, and a certificate; it needs no image", config: good(func(*config.Config) {})},
		"webhook":          {reason: "one role is enough", config: good(func(c *config.Config) { c.Roles = []string{"webhook"} })},
		"controller":       {reason: "it has no certificate and listens nowhere", config: good(func(c *config.Config) { c.Roles, c.CertDir, c.Listen = []string{"controller"}, "", "x" })},
		"nothing to watch": {reason: "0 is for no server", config: good(func(c *config.Config) { c.MetricsListen, c.HealthListen = "0", "0" })},
		"rotation":         {reason: "the controller makes the certificate", config: good(func(c *config.Config) { c.RotateCerts = true })},
		"no role":          {reason: "there would be nothing to do", config: good(func(c *config.Config) { c.Roles = []string{} }), want: "roles: is empty; name webhook, controller or both"},
		"unknown role":     {reason: "roles are these two", config: good(func(c *config.Config) { c.Roles = []string{"webhook", "audit"} }), want: `roles[1]: "audit": is not a role; use webhook, controller or both`},
		"no certificate":   {reason: "the API server speaks only https", config: good(func(c *config.Config) { c.CertDir = "" }), want: "certDir: is empty; name the directory that holds tls.crt and tls.key"},
		"rotation without controller": {
			reason: "only the leader makes certificates",
			config: good(func(c *config.Config) { c.Roles, c.RotateCerts = []string{"webhook"}, true }),
			want:   "rotateCerts: true: needs the role controller; add it to roles, or leave rotateCerts out",
		},
		"rotation alone": {
			reason: "the controller keeps certificates in Secrets, and mounts none",
			config: good(func(c *config.Config) { c.Roles, c.CertDir, c.RotateCerts = []string{"controller"}, "", true }),
		},
		"addresses": {
			reason: "all that is wrong, before anything is started",
			config: good(func(c *config.Config) { c.Listen, c.MetricsListen, c.HealthListen = ":0", "8080", ":x" }),
			want: `listen: "0" is not a port from 1 to 65535` + "\n" +
				`metricsListen: "8080" is not host:port: address 8080: missing port in address; 0 is for none` + "\n" +
				`healthListen: "x" is not a port from 1 to 65535; 0 is for none`,
		},
		"exemption": {
			reason: "the webhook checks the perimeter too, so it has to be possible",
			config: good(func(c *config.Config) { c.Exempt.Namespaces = []string{"*"} }),
			want:   `exempt: namespaces[0]: "*": would exempt every namespace; name those that need it`,
		},
		"what an installation has": {
			reason: "it comes from a file that somebody may have changed",
			config: good(func(c *config.Config) { c.AuditLimit, c.LogLevel = 501, "verbose" }),
			want:   "auditLimit: 501: use 1 to 500; what a status lists is in etcd\n" + `logLevel: "verbose": is not possible; use error, info, debug`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := tc.config.ValidateProcess(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
