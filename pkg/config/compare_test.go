package config_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
)

// unset is what applies where nothing is said.
var unset = config.Config{Image: "ghcr.io/fusegate/fusegate:v2"}

// TestLost has what an installation has, and a run that says nothing.
func TestLost(t *testing.T) {
	for name, tc := range map[string]struct {
		reason    string
		was, will config.Config
		want      config.Loss
	}{
		"nothing": {reason: "defaults are no loss"},
		"upgrade": {reason: "another version of the image is the purpose", was: config.Config{Image: "ghcr.io/fusegate/fusegate:v1@sha256:00"}},
		"mirror": {
			reason: "another registry is not", was: config.Config{Image: "mirror:5000/fusegate:v1"},
			want: config.Loss{Resets: []string{"image was mirror:5000/fusegate:v1, will be ghcr.io/fusegate/fusegate:v2"}},
		},
		"meant": {reason: "what is said is meant", was: config.Config{AuditLimit: 5}, will: config.Config{AuditLimit: 6}},
		"outside": {
			reason: "nothing of it would be left; the CA goes with it, and there was no Service", was: config.Config{WebhookURL: "https://192.0.2.1", CABundle: []byte("ca")},
			want: config.Loss{Resets: []string{"webhookURL was https://192.0.2.1, will be empty"}},
		},
		"moved out": {
			reason: "there is no Service and no image any more", was: config.Config{Image: "mirror/fusegate", ServicePort: 8443}, will: config.Config{WebhookURL: "https://192.0.2.1"},
		},
		"lists": {
			reason: "as flags have them", was: config.Config{Reports: []string{"openreports", "policyreport"}, AuditResync: 90 * time.Second, CheckEvery: new(int32(0))},
			want: config.Loss{Resets: []string{"auditResync was 1m30s, will be 1h0m0s", "checkEvery was 0, will be 100", "reports was openreports,policyreport, will be empty"}},
		},
		"a process's own": {reason: "no installation has it", was: config.Config{PodName: "a", Kubeconfig: "b", Listen: ":1"}},
		"fewer accounts": {
			reason: "those that are left out are under policy", will: config.Config{Exempt: exempt.Options{KubeSystemAccounts: exempt.ControllerManagerOnly}},
			want: config.Loss{Exemptions: []string{`kubeSystemAccounts "All"`}},
		},
		"more accounts": {
			reason: "what was under policy is not", was: config.Config{Exempt: exempt.Options{KubeSystemAccounts: exempt.ControllerManagerOnly}},
			want: config.Loss{Resets: []string{"exempt.kubeSystemAccounts was ControllerManagerOnly, will be All"}},
		},
		"another namespace": {reason: "nothing of the old one is lost", was: config.Config{Exempt: exempt.Options{OwnNamespace: "a"}}, will: config.Config{Exempt: exempt.Options{OwnNamespace: "b"}}},
		"some of a list": {
			reason: "the rest stays", was: config.Config{Exempt: exempt.Options{Namespaces: []string{"a", "b-*"}, Provider: "eks"}}, will: config.Config{Exempt: exempt.Options{Namespaces: []string{"c", "a"}}},
			want: config.Loss{Exemptions: []string{`namespaces "b-*"`, `provider "eks"`}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			was, will := tc.was, tc.will
			for _, c := range []*config.Config{&was, &will} {
				if c.Image == "" && c.InCluster() {
					c.Image = unset.Image
				}
			}
			if diff := cmp.Diff(tc.want, config.Lost(was, will, unset)); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestLostKnowsEveryExemption sets one field of the exemptions after the other.
func TestLostKnowsEveryExemption(t *testing.T) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[exempt.Options]()) {
		var was config.Config
		v := reflect.ValueOf(&was.Exempt).Elem().FieldByIndex(f.Index)
		value := "x"
		switch {
		case f.Name == "OwnNamespace" || f.Name == "KubeSystemAccounts":
			continue // are cases of TestLost
		case v.Kind() == reflect.String:
			v.SetString(value)
		default:
			v.Set(reflect.ValueOf([]string{value}))
		}
		got := config.Lost(was, config.Config{}, config.Config{})
		if len(got.Exemptions) != 1 || got.Exemptions[0] != fmt.Sprintf("%s %q", f.Tag.Get("json")[:len(f.Tag.Get("json"))-len(",omitempty")], value) {
			t.Errorf("%s: got %v, want it named", f.Name, got.Exemptions)
		}
	}
}
