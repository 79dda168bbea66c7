package install_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/controlplane"
)

// nothing finds nothing.
type nothing struct{}

func (nothing) Review(context.Context, *policy.Review) policy.Result { return policy.Result{} }

// armory is a Guard at work, and everything it depends on.
type armory struct {
	client   client.Client
	changed  chan struct{}
	errors   atomic.Int64 // lines of log that are errors
	asked    atomic.Int64 // probes that reached the backend
	looked   atomic.Int64 // looks at what the cluster serves
	counted  atomic.Int64 // looks at the constraints
	read     atomic.Int64 // looks at the webhook configuration
	mu       sync.Mutex
	ready    error
	needs    []match.Need
	events   []string
	guard    *install.Guard
	timings  timing.Timings
	answer   http.HandlerFunc // instead of the webhook's, if set
	discover func([]*metav1.APIResourceList) ([]*metav1.APIResourceList, error)
	discovery.ServerResourcesInterface
}

// arm installs Fusegate with a backend of its own and starts a Guard.
func arm(t *testing.T, wrap func(client.Client) client.Client, prepare func(*armory)) *armory {
	t.Helper()
	c := as(t, plane(t).Config(controlplane.Admin))
	a := &armory{client: c, changed: make(chan struct{}), timings: timing.Timings{
		Guard: 250 * time.Millisecond, CatalogAge: 250 * time.Millisecond, GuardRetry: 50 * time.Millisecond, GuardRetryMax: 500 * time.Millisecond,
	}}
	perimeter, err := exempt.New(exempt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := webhook.New(perimeter, nothing{}, nil, nil, webhook.Options{Log: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	backend := httptest.NewTLSServer(a.serve(handler))
	t.Cleanup(backend.Close)
	config := config.Config{
		WebhookURL: backend.URL + webhook.Path,
		CABundle:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: backend.Certificate().Raw}),
	}
	if _, err := render(t, config).Apply(t.Context(), c, install.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { clean(t, c) })
	d, err := discovery.NewDiscoveryClientForConfig(plane(t).Config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	a.ServerResourcesInterface = d
	if prepare != nil {
		prepare(a)
	}
	writer := c
	if wrap != nil {
		writer = wrap(c)
	}
	guard, err := install.NewGuard(install.GuardOptions{
		Client: writer, Live: reader{c, &a.read}, Discovery: a, Config: config, Ready: a.isReady, Subjects: a.all, Changed: a.changed,
		Touched: a.watch(t), Namespaces: a.namespaces, Renamed: a.renamed, Announce: a.announce, Timings: a.timings,
		Log: funcr.New(func(_, line string) {
			if !strings.Contains(line, `"level"=`) {
				a.errors.Add(1)
			}
		}, funcr.Options{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	a.guard = guard
	a.start(t, guard)
	return a
}

// reader counts what is read of webhook configurations.
type reader struct {
	client.Client
	read *atomic.Int64
}

func (r reader) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if _, ok := o.(*admissionregistrationv1.ValidatingWebhookConfiguration); ok {
		r.read.Add(1)
	}
	return r.Client.Get(ctx, key, o, opts...)
}

func (a *armory) start(t *testing.T, armer *install.Guard) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- armer.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the Guard: %v", err)
		}
	})
}

func (a *armory) serve(h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		answer := a.answer
		a.mu.Unlock()
		if answer == nil || strings.HasSuffix(r.URL.Path, "/elsewhere") {
			answer = h.ServeHTTP
		}
		a.asked.Add(1)
		answer(w, r)
	}
}

// set changes what the Guard sees.
func (a *armory) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *armory) isReady() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready
}

func (a *armory) all() []match.Need {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counted.Add(1)
	out := make([]match.Need, len(a.needs))
	for i, n := range a.needs {
		out[i] = n
		out[i].Kind, out[i].Name = subject(i).Kind, subject(i).Name
	}
	return out
}

// watch receives when the webhook configuration changes.
func (a *armory) watch(t *testing.T) <-chan struct{} {
	t.Helper()
	c, err := client.NewWithWatch(plane(t).Config(controlplane.Admin), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Watch(t.Context(), &admissionregistrationv1.ValidatingWebhookConfigurationList{})
	if err != nil {
		t.Fatal(err)
	}
	touched := make(chan struct{}, 1)
	go func() {
		for range w.ResultChan() {
			select {
			case touched <- struct{}{}:
			default:
			}
		}
	}()
	return touched
}

// subject is the identity of the constraint with the need of that index.
func subject(i int) install.Identity { return install.Identity{Kind: "Test", Name: fmt.Sprint(i)} }

func (a *armory) announce(_ bool, reason, message string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, reason+": "+message)
}

func (a *armory) announced() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.events)
}

// renamed is another number when names or labels of namespaces are others.
func (a *armory) renamed() uint64 {
	list, err := a.namespaces(context.Background())
	if err != nil {
		return 0
	}
	slices.SortFunc(list, func(x, y intercept.Namespace) int { return strings.Compare(x.Name, y.Name) })
	h := fnv.New64()
	_, _ = fmt.Fprint(h, list) // a hash takes everything
	return h.Sum64()
}

func (a *armory) namespaces(ctx context.Context) ([]intercept.Namespace, error) {
	list := &corev1.NamespaceList{}
	if err := a.client.List(ctx, list); err != nil {
		return nil, err
	}
	var out []intercept.Namespace
	for _, n := range list.Items {
		out = append(out, intercept.Namespace{Name: n.Name, Labels: n.Labels})
	}
	return out, nil
}

// ServerGroupsAndResources answers as the API server, and then as discover does.
func (a *armory) ServerGroupsAndResources() ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	defer a.looked.Add(1)
	groups, lists, err := a.ServerResourcesInterface.ServerGroupsAndResources()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.discover != nil && err == nil {
		lists, err = a.discover(lists)
	}
	return groups, lists, err
}

// rounds has the Guard look again, and returns when it has.
func (a *armory) rounds(t *testing.T) {
	t.Helper()
	for range 3 { // a round ends before the next announcement is received
		select {
		case a.changed <- struct{}{}:
		case <-time.After(patience):
			t.Fatal("the Guard does not look again")
		}
	}
}

// need is a constraint's that matches kinds, written as Kind.group.
func need(t *testing.T, kinds ...string) []match.Need {
	t.Helper()
	var entries []any
	for _, k := range kinds {
		kind, group, _ := strings.Cut(k, ".")
		entries = append(entries, map[string]any{"apiGroups": []any{group}, "kinds": []any{kind}})
	}
	m, err := match.Compile(map[string]any{"kinds": entries})
	if err != nil {
		t.Fatal(err)
	}
	return []match.Need{{Match: m}}
}

// armedFor are the resources in the rules of the policy entry, sorted and without
// subresources.
func armedFor(t *testing.T, c client.Client) string {
	t.Helper()
	var out []string
	for _, w := range live(t, c).Webhooks {
		if w.Name != string(exempt.PolicyEntry) {
			continue
		}
		for _, r := range w.Rules {
			if r.APIGroups[0] != "fusegate.dev" { // canaries are always intercepted
				out = append(out, slices.DeleteFunc(r.Resources, func(name string) bool { return strings.Contains(name, "/") })...)
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func awaitArmed(t *testing.T, c client.Client, within time.Duration, want string) {
	t.Helper()
	start := time.Now()
	await(t.Context(), t, "rules for "+want, func(context.Context) (bool, error) {
		return armedFor(t, c) == want, nil
	})
	if took := time.Since(start); took > within {
		t.Errorf("rules for %s took %v, want at most %v", want, took, within)
	}
}

// TestArm follows a Guard from the installation through the life of its
// backend.
func TestArm(t *testing.T) {
	down := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) }
	a := arm(t, nil, func(a *armory) {
		a.ready, a.answer, a.needs = errors.New("still listing"), down, need(t, "ConfigMap.")
	})
	c := a.client
	a.rounds(t)
	if n := a.asked.Load(); n > 0 {
		t.Errorf("%d probes before all constraints are known", n)
	}
	a.set(func() { a.ready = nil })
	for name, answer := range map[string]http.HandlerFunc{
		"down":  down,
		"other": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "{}") },
		"another": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		a.set(func() { a.answer = answer })
		before := a.asked.Load()
		a.rounds(t)
		if a.asked.Load() == before {
			t.Errorf("%s: the backend was not asked", name)
		}
		for _, w := range live(t, c).Webhooks {
			if len(w.Rules) > 0 {
				t.Errorf("%s: armed with %v although no backend answers", name, w.Rules)
			}
		}
	}
	a.set(func() { a.answer = nil })
	awaitArmed(t, c, 10*time.Second, "configmaps")
	if len(live(t, c).Webhooks[1].Rules) == 0 {
		t.Error("templates and constraints are not validated")
	}

	a.set(func() { a.needs = need(t, "ConfigMap.", "Deployment.apps") })
	a.rounds(t)
	awaitArmed(t, c, 2*time.Second, "configmaps deployments")

	before := live(t, c)
	a.set(func() { a.answer = down })
	a.rounds(t)
	if after := live(t, c); after.ResourceVersion != before.ResourceVersion {
		t.Errorf("the configuration was written without need: %+v", after)
	}
	// Nor does it disarm for a change that it cannot make.
	a.set(func() { a.needs = need(t, "Pod.") })
	a.rounds(t)
	if got := armedFor(t, c); got != "configmaps deployments" {
		t.Errorf("without a backend armed for %s, want what was", got)
	}
	a.set(func() { a.answer, a.needs = nil, nil })
	awaitArmed(t, c, 12*time.Second, "")
}

// TestRulesComeBack takes the rules away, as somebody else and unannounced.
func TestRulesComeBack(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, patience, "configmaps")
	serverSide(t, a.client, "somebody", entry(exempt.PolicyEntry, map[string]any{"rules": []any{}}))
	awaitArmed(t, a.client, 11*time.Second, "configmaps")

	// What somebody else asks for goes, even when nothing is needed.
	a.set(func() { a.needs = nil })
	a.rounds(t)
	serverSide(t, a.client, "somebody", entry(exempt.PolicyEntry, map[string]any{"rules": []any{map[string]any{
		"operations": []any{"*"}, "apiGroups": []any{"*"}, "apiVersions": []any{"*"}, "resources": []any{"*"},
	}}}))
	a.rounds(t)
	awaitArmed(t, a.client, 2*time.Second, "")
}

// TestHiddenGroups lets discovery miss groups, as it does when an aggregated
// API is down or an API server has just started.
func TestHiddenGroups(t *testing.T) {
	a := arm(t, nil, func(a *armory) { a.needs = need(t, "ConfigMap.", "Deployment.apps") })
	awaitArmed(t, a.client, patience, "configmaps deployments")
	without := func(lists []*metav1.APIResourceList) []*metav1.APIResourceList {
		return slices.DeleteFunc(lists, func(l *metav1.APIResourceList) bool { return l.GroupVersion == "apps/v1" })
	}
	for name, tc := range map[string]struct {
		reason   string
		discover func([]*metav1.APIResourceList) ([]*metav1.APIResourceList, error)
		needs    []match.Need
		events   []string
		guard    *install.Guard
		want     string
	}{
		"Failed": {
			reason: "what cannot be discovered is enforced as before",
			discover: func(lists []*metav1.APIResourceList) ([]*metav1.APIResourceList, error) {
				return without(lists), &discovery.ErrGroupDiscoveryFailed{Groups: map[schema.GroupVersion]error{
					{Group: "apps", Version: "v1"}: errors.New("down"),
				}}
			},
			needs: need(t, "ConfigMap.", "Deployment.apps", "Secret.", "Nowhere.example.com"),
			want:  "configmaps deployments secrets",
		},
		"Vanished": {
			reason:   "what a constraint needs and is not served stays as it is",
			discover: func(lists []*metav1.APIResourceList) ([]*metav1.APIResourceList, error) { return without(lists), nil },
			needs:    need(t, "ConfigMap.", "Deployment.apps", "Secret."),
			want:     "configmaps deployments secrets",
		},
		"Unwanted": {
			reason:   "what no constraint needs goes",
			discover: func(lists []*metav1.APIResourceList) ([]*metav1.APIResourceList, error) { return without(lists), nil },
			needs:    need(t, "ConfigMap.", "Nowhere.example.com"),
			want:     "configmaps",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a.set(func() { a.discover, a.needs = nil, need(t, "ConfigMap.", "Deployment.apps", "Nowhere.example.com") })
			a.rounds(t)
			awaitArmed(t, a.client, 2*time.Second, "configmaps deployments")
			a.set(func() { a.discover, a.needs = tc.discover, slices.Concat(tc.needs, need(t, "Nowhere.example.com")) })
			a.rounds(t)
			if got := armedFor(t, a.client); got != tc.want {
				t.Errorf("armed for %s, want %s: %s", got, tc.want, tc.reason)
			}
		})
	}
}

// contended has somebody write the configuration just before the first write.
type contended struct {
	client.Client
	once *sync.Once
}

func (c contended) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	var err error
	c.once.Do(func() {
		u := webhookConfiguration()
		err = c.Patch(ctx, u, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"somebody":"here"}}}`)))
	})
	return errors.Join(err, c.Client.Apply(ctx, o, opts...))
}

// TestConflictIsRetried checks that meeting another writer is no error.
func TestConflictIsRetried(t *testing.T) {
	once := &sync.Once{}
	a := arm(t, func(c client.Client) client.Client { return contended{c, once} },
		func(a *armory) { a.needs = need(t, "ConfigMap.") })
	awaitArmed(t, a.client, 5*time.Second, "configmaps")
	if live(t, a.client).Labels["somebody"] != "here" {
		t.Error("there was no conflict")
	}
	if n := a.errors.Load(); n > 0 {
		t.Errorf("%d errors were logged", n)
	}
}
