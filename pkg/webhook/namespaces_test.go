package webhook_test

import (
	"context"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/controlplane"
)

// counting is a Reader that counts what it is asked.
type counting struct {
	client.Reader
	asked int
}

func (c *counting) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	c.asked++
	return c.Reader.Get(ctx, key, o, opts...)
}

// TestClusterNamespaces uses two API paths to one cluster: an account that may
// read nothing stands for a cache that does not have the namespace yet.
func TestClusterNamespaces(t *testing.T) {
	cp := plane.Get(t)
	reader := func(user string) *counting {
		c, err := client.New(cp.Config(user), client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return &counting{Reader: c}
	}
	full, empty := reader(controlplane.Admin), reader(controlplane.Tenant)
	writer, err := client.New(cp.Config(controlplane.Admin), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "fresh", Labels: map[string]string{"team": "a"}}}
	if err := writer.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		reason      string
		cache, live *counting
		name        string
		known       bool
		asksLive    int
	}{
		"Cached":  {"what the cache has is not read again", full, reader(controlplane.Admin), "fresh", true, 0},
		"Fresh":   {"what the cache has not is read live", empty, reader(controlplane.Admin), "fresh", true, 1},
		"Unknown": {"what nobody has is not known", full, reader(controlplane.Admin), "nowhere", false, 1},
		"Denied":  {"nor is what cannot be read", empty, reader(controlplane.Tenant), "fresh", false, 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := webhook.NewClusterNamespaces(tc.cache, tc.live, logr.Discard()).Namespace(t.Context(), tc.name)
			if got.Known != tc.known || tc.live.asked != tc.asksLive {
				t.Fatalf("%s: got known %t after %d live reads, want %t after %d", tc.reason, got.Known, tc.live.asked, tc.known, tc.asksLive)
			}
			if !tc.known {
				if got.Object != nil {
					t.Errorf("%s: got an object: %v", tc.reason, got.Object)
				}
				return
			}
			meta := got.Object["metadata"].(map[string]any)
			want := []any{"v1", "Namespace", "fresh", map[string]any{"team": "a", "kubernetes.io/metadata.name": "fresh"}}
			if diff := cmp.Diff(want, []any{got.Object["apiVersion"], got.Object["kind"], meta["name"], meta["labels"]}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
