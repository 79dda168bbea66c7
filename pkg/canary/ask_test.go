package canary_test

import (
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/canary"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// armed installs Fusegate with the real handler and engine behind it, and gives
// two entries the rules for canaries at revision "r1". It counts the connections.
func armed(t *testing.T, c client.Client, connections *atomic.Int64) *httptest.Server {
	t.Helper()
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	handler, err := webhook.New(exempt.Perimeter{}, e, nil, nil, webhook.Options{Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	backend := httptest.NewUnstartedServer(handler)
	backend.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	backend.StartTLS()
	t.Cleanup(backend.Close)
	plan, err := install.Render(config.Config{
		WebhookURL: backend.URL + webhook.Path,
		CABundle:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: backend.Certificate().Raw}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), c, install.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: install.ConfigurationName}, live); err != nil {
		t.Fatal(err)
	}
	for i := range live.Webhooks {
		w := &live.Webhooks[i]
		if w.Name == string(exempt.EngineEntry) {
			continue
		}
		w.Rules = exempt.CanaryRules()
		if w.Name == string(exempt.PolicyEntry) {
			w.MatchConditions = append(w.MatchConditions, exempt.RevisionCondition("r1"))
		}
	}
	if err := c.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	return backend
}

// awaitSample asks until both answers are as wanted.
func awaitSample(t *testing.T, s canary.Server, revision string, policy, path canary.Outcome) canary.Sample {
	t.Helper()
	var got canary.Sample
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		got = canary.Ask(ctx, s, revision)
		return got.Policy.Outcome == policy && got.Path.Outcome == path, nil
	})
	if err != nil {
		t.Fatalf("revision %s: got %+v, want %s and %s", revision, got, policy, path)
	}
	return got
}

func TestAsk(t *testing.T) {
	cp := env.Start(t, controlplane.Options{})
	admin, err := client.New(cp.Config(controlplane.Admin), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	servers := func(user string) canary.Server {
		t.Helper()
		list, err := canary.NewCluster(cp.Config(user), nil, nil).Servers(t.Context())
		if err != nil || len(list) != 1 || list[0].Name != cp.Config(user).Host {
			t.Fatalf("got servers %v and error %v, want the kubeconfig's", list, err)
		}
		return list[0]
	}
	asAdmin := servers(controlplane.Admin)
	if got := canary.Ask(t.Context(), asAdmin, "r1"); got.Policy.Outcome != canary.Unknown || got.Policy.Err == nil {
		t.Errorf("without the kind: got %+v, want Unknown", got)
	}
	var connections atomic.Int64
	backend := armed(t, admin, &connections)
	awaitSample(t, asAdmin, "r1", canary.Denied, canary.Denied)
	awaitSample(t, asAdmin, "r2", canary.Admitted, canary.Denied)
	awaitSample(t, servers(controlplane.Tenant), "r1", canary.Unknown, canary.Unknown)
	reached(t, asAdmin, servers(controlplane.Tenant), &connections)
	backend.Close()
	if err := canary.Reached(t.Context(), fixed{asAdmin}); err == nil || !strings.Contains(err.Error(), "does not answer API server "+asAdmin.Name) {
		t.Errorf("got error %v, want the API server that is not answered", err)
	}
	if got := awaitSample(t, asAdmin, "r1", canary.Admitted, canary.Admitted); got.Policy.Took <= 0 {
		t.Errorf("got %+v, want to know how long it took", got)
	}
}

// fixed are these API servers.
type fixed []canary.Server

func (f fixed) Servers(context.Context) ([]canary.Server, error) { return f, nil }

// reached checks that canaries which ask for the path of new connections have them.
func reached(t *testing.T, asAdmin, asTenant canary.Server, connections *atomic.Int64) {
	t.Helper()
	const times = 5
	before := int64(0)
	for i := range 2 * times { // the first ones may have those that were kept
		if i == times {
			before = connections.Load()
		}
		if err := canary.Reached(t.Context(), fixed{asAdmin}); err != nil {
			t.Error(err)
		}
	}
	if got := connections.Load() - before; got != times {
		t.Errorf("%d canaries made %d connections, want each its own", times, got)
	}
	err := canary.Reached(t.Context(), fixed{asAdmin, asTenant})
	if err == nil || !strings.Contains(err.Error(), "could not be asked") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got error %v, want one about whom it may not ask", err)
	}
}

// TestRegistered finds the API server by its registration.
func TestRegistered(t *testing.T) {
	cp := env.Start(t, controlplane.Options{})
	admin, err := client.New(cp.Config(controlplane.Admin), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		list, err := canary.NewCluster(cp.Config(controlplane.Admin), admin, nil).Servers(ctx)
		names = nil
		for _, s := range list {
			names = append(names, s.Name)
		}
		return err == nil, nil
	})
	if err != nil || len(names) != 1 {
		t.Fatalf("got %v (%v), want the one that has registered", names, err)
	}
	named, err := canary.NewCluster(cp.Config(controlplane.Admin), admin, []string{"https://b", "https://a"}).Servers(t.Context())
	if err != nil || !slices.Equal([]string{named[0].Name, named[1].Name}, []string{"https://b", "https://a"}) {
		t.Errorf("got %v (%v), want those that were named", named, err)
	}
}
