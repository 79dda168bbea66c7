package report_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/manifests"
	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/report"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// patience bounds every wait; a test that passes never waits that long.
const patience = 90 * time.Second

var (
	configMaps     = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	namespaces     = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	clusterRoles   = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	definitions    = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	openReports    = schema.GroupVersionResource{Group: "openreports.io", Version: "v1alpha1", Resource: "reports"}
	clusterReports = openReports.GroupVersion().WithResource("clusterreports")
	policyReports  = schema.GroupVersionResource{Group: "wgpolicyk8s.io", Version: "v1alpha2", Resource: "policyreports"}
)

// shared is the control plane of all tests, whose controller manager collects
// garbage.
var shared = env.Shared{Options: controlplane.Options{ControllerManager: true}}

// soon are the timings of the audit under test, so that nothing waits for its next
// round.
var soon = timing.Timings{
	AuditSettle: 20 * time.Millisecond, AuditRound: 50 * time.Millisecond, AuditServed: 2 * time.Second, AuditServedSoon: 250 * time.Millisecond,
	AuditRead: 100 * time.Millisecond, AuditReadMax: 3 * time.Second, AuditHeld: 100 * time.Millisecond, AuditMissed: time.Second,
}

// await returns once try returns nil.
var await = env.Await

func TestMain(m *testing.M) { os.Exit(env.Run(m, &shared)) }

// world is a cluster, and an engine that may be audited with.
type world struct {
	t      *testing.T
	client dynamic.Interface
	engine *engine.Engine
}

func newWorld(t *testing.T) *world {
	t.Helper()
	config := shared.Get(t).Config(controlplane.Admin)
	config.QPS, config.Burst = 500, 500
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, client: client, engine: e}
	template, err := engine.ParseTemplate(parse(t, wants))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddTemplate(t.Context(), template); err != nil {
		t.Fatal(err)
	}
	return w
}

// wants is the template of constraints that want a label. It fails on objects
// that are labelled "broken".
const wants = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: wants}
spec:
  crd: {spec: {names: {kind: Wants}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package labels
      state = 1 { input.review.object.metadata.labels.broken }
      state = 2 { input.review.object.metadata.name }
      violation[{"msg": msg}] {
        state
        not input.review.object.metadata.labels[input.parameters.label]
        msg := sprintf("lacks %v", [input.parameters.label])
      }
`

func (w *world) constraint(name, action, label, match string) {
	w.t.Helper()
	c := parse(w.t, fmt.Sprintf("{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: Wants, metadata: {name: %s}, spec: {enforcementAction: %s, match: %s, parameters: {label: %s}}}",
		name, action, match, label))
	if err := w.engine.AddConstraint(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

// run is one life of an auditor with a reporter.
type run struct {
	t        *testing.T
	reporter *report.Reporter
	cancel   context.CancelFunc
	done     chan error
}

// start audits and reports until the run is stopped, or the test ends.
func (w *world) start(o report.Options) *run {
	w.t.Helper()
	o.Client = w.client
	reporter, err := report.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	perimeter, err := exempt.New(exempt.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := audit.New(audit.Options{
		Config: shared.Get(w.t).Config(controlplane.Admin), Reviewer: w.engine, Sink: nowhere{}, Objects: reporter, Perimeter: perimeter, Timings: soon,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{t: w.t, reporter: reporter, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Start(ctx) }()
	w.t.Cleanup(r.stop)
	return r
}

// stop may be called again.
func (r *run) stop() {
	r.cancel()
	if r.done == nil {
		return
	}
	if err := <-r.done; err != nil {
		r.t.Error(err)
	}
	r.done = nil
}

// awaitCondition waits for what the reporter says of itself.
func (r *run) awaitCondition(reason, message string) {
	r.t.Helper()
	await(r.t, "the condition "+reason, func() error {
		if c := r.reporter.Condition(); c.Reason != reason || !strings.Contains(c.Message, message) {
			return fmt.Errorf("got %+v", c)
		}
		return nil
	})
}

// nowhere is a sink of the outcomes by constraint.
type nowhere struct{}

func (nowhere) Constraints(context.Context, []*audit.Outcome) []audit.Unwritten { return nil }
func (nowhere) Before(context.Context, policy.Constraint, types.UID) (audit.Before, error) {
	return audit.Before{}, nil
}
func (nowhere) Report(context.Context, v1alpha1.AuditReportStatus) error { return nil }

func described(d report.Description) func(context.Context, policy.Constraint) report.Description {
	return func(context.Context, policy.Constraint) report.Description { return d }
}

// openReportsModule is the folder of the module of OpenReports.
var openReportsModule = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/openreports/reports-api").Output()
	return strings.TrimSpace(string(out)), err
})

// theirs installs the CRDs of OpenReports as their project ships them.
func (w *world) theirs() {
	w.t.Helper()
	folder, err := openReportsModule()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"reports", "clusterreports"} {
		text, err := os.ReadFile(filepath.Join(folder, "config", "crd", "openreports.io_"+name+".yaml"))
		if err != nil {
			w.t.Fatal(err)
		}
		w.define(text)
	}
}

// ours installs a file of manifests/crds/reports.
func (w *world) ours(names ...string) {
	w.t.Helper()
	for _, name := range names {
		text, err := manifests.FS.ReadFile("crds/reports/" + name)
		if err != nil {
			w.t.Fatal(err)
		}
		w.define(text)
	}
}

func (w *world) define(text []byte) {
	w.t.Helper()
	u := parse(w.t, string(text))
	w.apply(definitions, u)
	await(w.t, u.GetName(), func() error {
		live := w.get(definitions, "", u.GetName())
		conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
		for _, item := range conditions {
			if c, _ := item.(map[string]any); c["type"] == "Established" && c["status"] == "True" {
				return nil
			}
		}
		return fmt.Errorf("got conditions %v", conditions)
	})
}

func (w *world) undefine(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.remove(definitions, "", name)
		await(w.t, name+" to go", func() error {
			if w.get(definitions, "", name) != nil {
				return fmt.Errorf("%s is there", name)
			}
			return nil
		})
	}
}

func (w *world) apply(gvr schema.GroupVersionResource, u *unstructured.Unstructured) {
	w.t.Helper()
	_, err := w.client.Resource(gvr).Namespace(u.GetNamespace()).Apply(w.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "test", Force: true})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) namespace(name string) {
	w.t.Helper()
	w.apply(namespaces, parse(w.t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+"}}"))
}

func (w *world) configMap(namespace, name string, labels ...string) {
	w.t.Helper()
	w.apply(configMaps, parse(w.t, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: %s, labels: {%s}}}",
		name, namespace, strings.Join(append(labels, "tested: x"), ", "))))
}

// configMaps makes n of them, a few at a time.
func (w *world) configMaps(namespace string, n int) {
	w.t.Helper()
	const at = 8
	errs := make([]error, at)
	var tasks sync.WaitGroup
	for first := range at {
		tasks.Go(func() {
			for i := first; i < n; i += at {
				u := parse(w.t, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: bare-%d, labels: {tested: x}}}", i))
				_, err := w.client.Resource(configMaps).Namespace(namespace).Create(w.t.Context(), u, metav1.CreateOptions{})
				errs[first] = errors.Join(errs[first], err)
			}
		})
	}
	tasks.Wait()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

// get returns nil if there is no such object.
func (w *world) get(gvr schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	u, err := w.client.Resource(gvr).Namespace(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return u
}

func (w *world) remove(gvr schema.GroupVersionResource, namespace, name string) {
	w.t.Helper()
	if err := w.client.Resource(gvr).Namespace(namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// reports returns those in a namespace by the name of their object.
func (w *world) reports(gvr schema.GroupVersionResource, namespace string) map[string]*unstructured.Unstructured {
	w.t.Helper()
	list, err := w.client.Resource(gvr).Namespace(namespace).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		name, _, _ := unstructured.NestedString(list.Items[i].Object, "scope", "name")
		out[name] = &list.Items[i]
	}
	return out
}

// lines are the reports in a namespace: by the name of the object, what each
// result says.
func (w *world) lines(gvr schema.GroupVersionResource, namespace string) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for name, u := range w.reports(gvr, namespace) {
		var lines []string
		results, _, _ := unstructured.NestedSlice(u.Object, "results")
		for _, item := range results {
			r, _ := item.(map[string]any)
			p, _ := r["properties"].(map[string]any)
			lines = append(lines, fmt.Sprintf("%v %v: %v (%v)", r["result"], r["policy"], r["message"], p["enforcementAction"]))
		}
		out[name] = strings.Join(lines, "; ")
	}
	return out
}

func (w *world) awaitLines(what string, gvr schema.GroupVersionResource, namespace string, want map[string]string) {
	w.t.Helper()
	await(w.t, what, func() error {
		if got := w.lines(gvr, namespace); !maps.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}
