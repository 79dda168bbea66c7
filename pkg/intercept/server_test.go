package intercept_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/version"

	"github.com/fusegate/fusegate/pkg/intercept"
)

// TestServerOf checks from which version on reviews are kept from webhooks.
func TestServerOf(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		version version.Info
		want    bool
	}{
		"Before":   {"1.36 sends them.", version.Info{Major: "1", Minor: "36"}, false},
		"Since":    {"1.37 does not.", version.Info{Major: "1", Minor: "37"}, true},
		"Provider": {"A provider's build has a plus sign.", version.Info{Major: "1", Minor: "38+"}, true},
		"Emulates": {"1.37 behaves like 1.36 where it emulates it.", version.Info{Major: "1", Minor: "37", EmulationMajor: "1", EmulationMinor: "36"}, false},
		"Nothing":  {"What is not known counts as old.", version.Info{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := intercept.ServerOf(tc.version).KeepsReviews; got != tc.want {
				t.Errorf("%s: got %t", tc.reason, got)
			}
		})
	}
}
