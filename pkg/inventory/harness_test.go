package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/manifests"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/inventory"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

const (
	// reader is the user that reads, with the rights of a ClusterRole.
	reader = "reader"
	home   = "gatekeeper-system"
)

var (
	configMaps   = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	secrets      = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	namespaces   = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	clusterRoles = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	crds         = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	syncSets     = schema.GroupVersionResource{Group: "syncset.gatekeeper.sh", Version: "v1alpha1", Resource: "syncsets"}
	configs      = schema.GroupVersionResource{Group: "config.gatekeeper.sh", Version: "v1alpha1", Resource: "configs"}
)

// shared is the control plane of all tests.
var shared = env.Shared{Options: controlplane.Options{
	Users: []controlplane.User{{Name: reader}}, APIServerArgs: []string{"--watch-cache-sizes=configmaps#0"},
}}

// await returns once try returns nil.
var await = env.Await

func TestMain(m *testing.M) { os.Exit(env.Run(m, &shared)) }

// world is an inventory at work. Its templates read all, or one kind.
type world struct {
	t         *testing.T
	admin     dynamic.Interface
	engine    *engine.Engine
	inventory *inventory.Inventory
	metrics   *prometheus.Registry
	wire      *wire
	stop      func()
	// after, if set, is called when data has been replaced.
	after atomic.Pointer[func()]
	// stale is how often the engine was told of data that is not followed.
	stale atomic.Int64
}

// watched tells the world of every step of the data.
type watched struct {
	*engine.Engine
	world *world
}

func (e watched) UpdateData(edits []engine.DataEdit) error {
	err := e.Engine.UpdateData(edits)
	if f := e.world.after.Load(); f != nil {
		(*f)()
	}
	return err
}

func (e watched) SetInventoryStale(n engine.Need, stale string) bool {
	if stale != "" {
		e.world.stale.Add(1)
	}
	return e.Engine.SetInventoryStale(n, stale)
}

// hasty is a clock that runs so many times as fast.
type hasty struct {
	clock.RealClock
	start time.Time
	times time.Duration
}

func (h hasty) Now() time.Time                       { return h.start.Add(h.times * time.Since(h.start)) }
func (h hasty) Since(t time.Time) time.Duration      { return h.Now().Sub(t) }
func (h hasty) NewTimer(d time.Duration) clock.Timer { return h.RealClock.NewTimer(d / h.times) }

func newWorld(t *testing.T, o inventory.Options) *world {
	t.Helper()
	admin, err := dynamic.NewForConfig(shared.Get(t).Config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, admin: admin, wire: &wire{open: map[*cuttable]bool{}, lists: map[string]int{}}}
	w.grant("*")
	w.start(o)
	t.Cleanup(func() { w.stop() })
	return w
}

// start starts an inventory, and an engine that knows no template.
func (w *world) start(o inventory.Options) {
	w.t.Helper()
	config := shared.Get(w.t).Config(reader)
	config.Wrap(w.wire.wrap)
	config.QPS = -1
	var err error
	if w.engine, err = engine.New(); err != nil {
		w.t.Fatal(err)
	}
	w.engine.AwaitInventory()
	w.metrics = prometheus.NewRegistry()
	o.Timings = timing.Timings{InventoryRetry: 200 * time.Millisecond, InventoryKinds: 100 * time.Millisecond, InventoryTell: 200 * time.Millisecond}
	o.Engine, o.Metrics, o.ConfigNamespaces = watched{w.engine, w}, w.metrics, []string{home}
	o.Client, o.Discovery = clientsOf(w.t, config)
	if w.inventory, err = inventory.New(o); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.inventory.Start(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

func clientsOf(t *testing.T, config *rest.Config) (dynamic.Interface, discovery.DiscoveryInterface) {
	t.Helper()
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client, disco
}

// grant gives the reader the right to read these resources and no others.
func (w *world) grant(resources ...any) {
	w.t.Helper()
	role := parse(w.t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-reader}
rules:
- {apiGroups: ["*"], verbs: [get, list, watch]}
`)
	rules, _, _ := unstructured.NestedSlice(role.Object, "rules")
	rules[0].(map[string]any)["resources"] = append([]any{"syncsets", "configs"}, resources...)
	role.Object["rules"] = rules
	w.apply(clusterRoles, role)
	w.apply(clusterRoles.GroupVersion().WithResource("clusterrolebindings"), parse(w.t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: reader}]
`))
}

func (w *world) apply(gvr schema.GroupVersionResource, u *unstructured.Unstructured) {
	w.t.Helper()
	_, err := w.admin.Resource(gvr).Namespace(u.GetNamespace()).Apply(w.t.Context(), u.GetName(), u,
		metav1.ApplyOptions{FieldManager: "test", Force: true})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(gvr schema.GroupVersionResource, namespace, name string) {
	w.t.Helper()
	err := w.admin.Resource(gvr).Namespace(namespace).Delete(context.Background(), name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Error(err)
	}
}

func (w *world) namespace(name string) {
	w.t.Helper()
	w.apply(namespaces, parse(w.t, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", name)))
}

// object stores an object with a value, and removes it after the test.
func (w *world) object(kind, namespace, name, value string) {
	w.t.Helper()
	gvr := configMaps
	if kind == "Secret" {
		gvr = secrets
	}
	w.apply(gvr, parse(w.t, fmt.Sprintf("{apiVersion: v1, kind: %s, metadata: {name: %s, namespace: %s, labels: {in: test, v: %q}}}", kind, name, namespace, value)))
	w.t.Cleanup(func() { w.remove(gvr, namespace, name) })
}

// definitions installs the CRDs of SyncSet and Config, as shipped.
func (w *world) definitions() {
	w.t.Helper()
	for _, name := range []string{"syncsets", "configs"} {
		text, err := manifests.FS.ReadFile("crds/" + name + ".yaml")
		if err != nil {
			w.t.Fatal(err)
		}
		u := parse(w.t, string(text))
		w.apply(crds, u)
		await(w.t, name+" to be served", func() error {
			group, _, _ := unstructured.NestedString(u.Object, "spec", "group")
			_, err := w.admin.Resource(schema.GroupVersionResource{Group: group, Version: "v1alpha1", Resource: name}).List(w.t.Context(), metav1.ListOptions{})
			return err
		})
	}
}

// everything is where code that reads all that is labelled finds it.
const everything = `
seen[x] { o := data.inventory.namespace[ns][gv][kind][name]; o.metadata.labels["in"] == "test"; x := sprintf("%s %s/%s=%s", [kind, ns, name, o.metadata.labels.v]) }
seen[x] { o := data.inventory.cluster[gv][kind][name]; o.metadata.labels["in"] == "test"; x := sprintf("%s %s=%s", [kind, name, o.metadata.labels.v]) }
`

// template adds a template that shows what it sees, and a constraint of it on
// everything. requires is the annotation, empty for none.
func (w *world) template(kind, requires, code string) {
	w.t.Helper()
	u := parse(w.t, fmt.Sprintf(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec: {crd: {spec: {names: {kind: %s}}}, targets: [{target: admission.k8s.gatekeeper.sh}]}
`, strings.ToLower(kind), kind))
	if requires != "" {
		u.SetAnnotations(map[string]string{engine.AnnotationRequires: requires})
	}
	targets, _, _ := unstructured.NestedSlice(u.Object, "spec", "targets")
	targets[0].(map[string]any)["rego"] = "package p\nviolation[{\"msg\": x}] { seen[x] }\n" + code
	u.Object["spec"].(map[string]any)["targets"] = targets
	t, err := engine.ParseTemplate(u)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.engine.AddTemplate(w.t.Context(), t); err != nil {
		w.t.Fatal(err)
	}
	c := parse(w.t, fmt.Sprintf("{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: %s, metadata: {name: %s}}", kind, strings.ToLower(kind)))
	if err := w.engine.AddConstraint(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

// sees is what the constraint of a kind shows: objects, or why nothing is
// judged by it.
func (w *world) sees(kind string) []string {
	w.t.Helper()
	r := w.engine.Review(w.t.Context(), &policy.Review{
		Kind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, Name: "p", Operation: policy.Create, Point: policy.PointWebhook, Object: map[string]any{},
	})
	out := []string{}
	for _, v := range r.Violations {
		if v.Constraint.Kind == kind {
			out = append(out, v.Message)
		}
	}
	for _, f := range r.Faults {
		if f.Constraint.Kind == kind {
			out = append(out, string(f.Cause)+": "+f.Summary())
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) await(what, kind string, want ...string) {
	w.t.Helper()
	if want == nil {
		want = []string{}
	}
	await(w.t, what, func() error {
		if diff := cmp.Diff(want, w.sees(kind)); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

// awaitFault waits until nothing is judged by a kind's constraint, for a reason
// that holds these words.
func (w *world) awaitFault(what, kind string, words ...string) {
	w.t.Helper()
	await(w.t, what, func() error {
		got := w.sees(kind)
		if len(got) != 1 || !strings.HasPrefix(got[0], "Inventory: ") {
			return fmt.Errorf("got %q, want a fault", got)
		}
		for _, word := range words {
			if !strings.Contains(got[0], word) {
				return fmt.Errorf("got %q, want %q in it", got[0], word)
			}
		}
		return nil
	})
}

func parse(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return u
}

// wire is the inventory's connection, which can be cut.
type wire struct {
	mu     sync.Mutex
	open   map[*cuttable]bool
	refuse string         // watches whose path ends so fail
	lists  map[string]int // by path: lists, streamed ones too
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		watching := r.URL.Query().Has("watch")
		w.mu.Lock()
		refused := watching && w.refuse != "" && strings.HasSuffix(r.URL.Path, w.refuse)
		if !watching || r.URL.Query().Has("sendInitialEvents") {
			w.lists[r.URL.Path]++
		}
		w.mu.Unlock()
		if refused {
			return nil, errors.New("the wire is cut")
		}
		resp, err := next.RoundTrip(r)
		if err == nil && watching {
			c := &cuttable{ReadCloser: resp.Body, path: r.URL.Path}
			resp.Body = c
			w.mu.Lock()
			w.open[c] = true
			w.mu.Unlock()
		}
		return resp, err
	})
}

// cut ends the watches of a resource; while hold is true there are no others.
func (w *wire) cut(resource string, hold bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = ""
	if hold {
		w.refuse = resource
	}
	for c := range w.open {
		if strings.HasSuffix(c.path, resource) {
			_ = c.Close()
			delete(w.open, c)
		}
	}
}

func (w *wire) listed(suffix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for path, count := range w.lists {
		if strings.HasSuffix(path, suffix) {
			n += count
		}
	}
	return n
}

type cuttable struct {
	io.ReadCloser
	path string
}

// definition has a cluster-scoped kind served.
func (w *world) definition(group, kind, plural string) {
	w.t.Helper()
	w.apply(crds, parse(w.t, fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[3]s.%[1]s}
spec:
  group: %[1]s
  scope: Cluster
  names: {kind: %[2]s, plural: %[3]s}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`, group, kind, plural)))
	await(w.t, kind+" to be served", func() error {
		_, err := w.admin.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural}).List(w.t.Context(), metav1.ListOptions{})
		return err
	})
}

// metric returns an error unless a gauge of a kind has this value.
func (w *world) metric(name, kind string, want float64) error {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		return err
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || m.GetLabel()[1].GetValue() != kind {
				continue
			}
			if got := m.GetGauge().GetValue(); got != want {
				return fmt.Errorf("got %v for %s of %s, want %v", got, name, kind, want)
			}
			return nil
		}
	}
	return fmt.Errorf("there is no %s of %s", name, kind)
}
