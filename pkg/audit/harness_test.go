package audit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

const (
	// auditor is the user that audits, with the rights of a ClusterRole.
	auditor = "auditor"
)

var (
	configMaps   = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	secrets      = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	namespaces   = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	clusterRoles = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
)

// shared is the control plane of all tests. configmaps are kept out of the API
// server's watch cache, so that what etcd has forgotten is expired for them.
var shared = env.Shared{Options: controlplane.Options{
	Users: []controlplane.User{{Name: auditor}}, APIServerArgs: []string{"--watch-cache-sizes=configmaps#0"},
}}

// soon are the timings of auditors whose test says nothing of them: short, so that
// nothing waits for the next look.
var soon = timing.Timings{
	AuditSettle: 20 * time.Millisecond, AuditRound: 50 * time.Millisecond, AuditServed: 2 * time.Second, AuditServedSoon: 250 * time.Millisecond,
	AuditRead: 100 * time.Millisecond, AuditReadMax: 3 * time.Second, AuditHeld: 100 * time.Millisecond, AuditMissed: time.Second,
}

// await returns once try returns nil.
var await = env.Await

func TestMain(m *testing.M) { os.Exit(env.Run(m, &shared)) }

// world is an auditor at work.
type world struct {
	t      *testing.T
	admin  dynamic.Interface
	engine *engine.Engine
	wire   *wire
	config *rest.Config
	// judged counts reviews by all constraints.
	judged atomic.Int64
	*run
}

// counting is an engine that counts.
type counting struct {
	*engine.Engine
	judged *atomic.Int64
}

func (c counting) Review(ctx context.Context, r *policy.Review) policy.Result {
	c.judged.Add(1)
	return c.Engine.Review(ctx, r)
}

// run is one life of an auditor.
type run struct {
	sink    *memory
	auditor *audit.Auditor
	cancel  context.CancelFunc
	done    chan error
}

func newWorld(t *testing.T, o audit.Options) *world {
	t.Helper()
	cp := shared.Get(t)
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := dynamic.NewForConfig(cp.Config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, admin: admin, engine: e, wire: newWire(), config: cp.Config(auditor)}
	w.config.Wrap(w.wire.wrap)
	w.grant("*")
	w.start(o)
	t.Cleanup(func() { w.stop() })
	return w
}

// start starts an auditor, which finds what the one before has told.
func (w *world) start(o audit.Options) {
	w.t.Helper()
	r := &run{sink: &memory{}, done: make(chan error, 1)}
	if w.run != nil {
		r.sink.before = w.sink.outcomes
	}
	o.Config, o.Reviewer, o.Sink = w.config, counting{w.engine, &w.judged}, r.sink
	if o.Timings == (timing.Timings{}) {
		o.Timings = soon
	}
	var err error
	if r.auditor, err = audit.New(o); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.auditor.Start(ctx) }()
	w.run = r
}

func (w *world) stop() {
	w.t.Helper()
	w.cancel()
	if err := <-w.done; err != nil {
		w.t.Error(err)
	}
}

// grant gives the auditor the right to read these resources and namespaces.
func (w *world) grant(resources ...string) {
	w.t.Helper()
	w.rights(fmt.Sprintf("{apiGroups: ['*'], verbs: [get, list, watch], resources: [namespaces, '%s']}", strings.Join(resources, "', '")))
}

// rights gives the auditor the rights of these rules.
func (w *world) rights(rules ...string) {
	w.t.Helper()
	w.apply(clusterRoles, parse(w.t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-auditor}
rules: [`+strings.Join(rules, ", ")+`]
`))
	w.apply(clusterRoles.GroupVersion().WithResource("clusterrolebindings"), parse(w.t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-auditor}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-auditor}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: auditor}]
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
	if err := w.admin.Resource(gvr).Namespace(namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) namespace(name string, labels ...string) {
	w.t.Helper()
	w.apply(namespaces, parse(w.t, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {%s}}}", name, strings.Join(labels, ", "))))
}

func (w *world) object(kind, namespace, name string, labels ...string) {
	w.t.Helper()
	gvr := configMaps
	if kind == "Secret" {
		gvr = secrets
	}
	w.apply(gvr, parse(w.t, fmt.Sprintf("{apiVersion: v1, kind: %s, metadata: {name: %s, namespace: %s, labels: {%s}}}",
		kind, name, namespace, strings.Join(labels, ", "))))
}

// template wants the label named by a parameter, in words that can be changed.
// An object labelled "broken" is one on which it fails.
func (w *world) template(kind, word string) {
	w.t.Helper()
	w.templateFor(kind, word, "[]")
}

// templateFor is a template that lists operations.
func (w *world) templateFor(kind, word, operations string) {
	w.t.Helper()
	w.parsed(fmt.Sprintf(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd: {spec: {names: {kind: %s}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    operations: %s
    rego: |
      package labels
      state = 1 { input.review.object.metadata.labels.broken }
      state = 2 { input.review.object.metadata.name }
      violation[{"msg": msg}] {
        state
        not input.review.object.metadata.labels[input.parameters.label]
        msg := sprintf("%s %%v", [input.parameters.label])
      }
`, strings.ToLower(kind), kind, operations, word))
}

// parsed adds the template that the text is.
func (w *world) parsed(text string) {
	w.t.Helper()
	t, err := engine.ParseTemplate(parse(w.t, text))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.engine.AddTemplate(w.t.Context(), t); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) constraint(kind, name, label, match string) {
	w.t.Helper()
	c := parse(w.t, fmt.Sprintf("{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: %s, metadata: {name: %s}, spec: {match: %s, parameters: {label: %s}}}",
		kind, name, match, label))
	if err := w.engine.AddConstraint(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) removeConstraint(kind, name string) {
	w.t.Helper()
	if err := w.engine.RemoveConstraint(w.t.Context(), kind, name); err != nil {
		w.t.Fatal(err)
	}
}

// await waits until the results are these: by constraint, its lines.
func (w *world) await(what string, want map[string][]string) {
	w.t.Helper()
	await(w.t, what, func() error {
		if diff := cmp.Diff(want, w.sink.lines()); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

// memory is a sink that remembers.
type memory struct {
	mu       sync.Mutex
	outcomes []*audit.Outcome
	report   v1alpha1.AuditReportStatus
	// before is what another has told, and refused the constraints of which
	// nothing can be recorded.
	before  []*audit.Outcome
	refused map[string]error
	// least is the lowest total that was ever seen of a constraint.
	least map[string]int64
	// told is how many reports there were, and fewest the lowest total of one.
	told   int
	fewest int64
}

func (m *memory) Before(_ context.Context, constraint policy.Constraint, uid types.UID) (audit.Before, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.before {
		if o.Constraint.String() == constraint.String() && o.UID == uid {
			return audit.Before{
				Counted: !o.Uncounted, Total: o.Total, Exempt: o.Exempt, At: o.At,
				Violations: o.Violations, ExemptViolations: o.ExemptViolations,
				Costly: o.Costly, CostlyObjects: o.CostlyObjects,
			}, nil
		}
	}
	return audit.Before{}, nil
}

func (m *memory) Constraints(_ context.Context, outcomes []*audit.Outcome) (failed []audit.Unwritten) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range outcomes {
		if err := m.refused[o.Constraint.Name]; err != nil {
			failed = append(failed, audit.Unwritten{Kind: o.Constraint.Kind, Name: o.Constraint.Name, Err: err})
		}
	}
	m.outcomes = outcomes
	if m.least == nil {
		m.least = map[string]int64{}
	}
	for _, o := range outcomes {
		if n, seen := m.least[o.Constraint.Name]; !seen || o.Total < n {
			m.least[o.Constraint.Name] = o.Total
		}
	}
	return failed
}

// times is how often everything was handed over.
func (m *memory) times() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.told
}

func (m *memory) Report(_ context.Context, r v1alpha1.AuditReportStatus) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report = r
	m.told++
	if m.told == 1 || r.TotalViolations < m.fewest {
		m.fewest = r.TotalViolations
	}
	return nil
}

// reported is the last report, and the lowest total of any.
func (m *memory) reported() (last v1alpha1.AuditReportStatus, fewest int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.report, m.fewest
}

// refuse has nothing recorded of a constraint as long as there is an error.
func (m *memory) refuse(constraint string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = map[string]error{constraint: err}
}

func (m *memory) forgetLeast() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.least = nil
}

// lines are the results as text, by constraint.
func (m *memory) lines() map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return linesOf(m.outcomes)
}

// total is that of a constraint, -1 if it is not known.
func (m *memory) total(constraint string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.outcomes {
		if o.Constraint.Name == constraint {
			return o.Total
		}
	}
	return -1
}

// costly are the objects that cost a constraint most, how many there are, and what
// is said of it.
func (m *memory) costly(constraint string) (objects []string, total int64, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.outcomes {
		if o.Constraint.Name == constraint {
			for _, x := range o.CostlyObjects {
				objects = append(objects, fmt.Sprintf("%s %d", x.Name, x.Percent))
			}
			return objects, o.Costly, o.Message
		}
	}
	return nil, -1, ""
}

func linesOf(outcomes []*audit.Outcome) map[string][]string {
	out := map[string][]string{}
	for _, o := range outcomes {
		lines := []string{}
		for _, v := range o.Violations {
			lines = append(lines, fmt.Sprintf("%s %s/%s %s", v.Kind, v.Namespace, v.Name, v.Message))
		}
		for _, v := range o.ExemptViolations {
			lines = append(lines, fmt.Sprintf("exempt %s %s/%s %s", v.Kind, v.Namespace, v.Name, v.Message))
		}
		if int(o.Total+o.Exempt) != len(lines) {
			lines = append(lines, fmt.Sprintf("of %d and %d", o.Total, o.Exempt))
		}
		if !o.Complete {
			lines = append(lines, o.Reason)
		}
		out[o.Constraint.Name] = lines
	}
	return out
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return u
}

// wire is the auditor's connection, which can be cut.
type wire struct {
	mu     sync.Mutex
	open   map[*cuttable]bool
	refuse string // watches whose path ends so fail
	// answer answers requests in the place of the API server, unless it is nil
	// or returns nil.
	answer func(*http.Request) *http.Response
	// lists and watches count requests by path.
	lists, watches map[string]int
}

func newWire() *wire {
	return &wire{open: map[*cuttable]bool{}, lists: map[string]int{}, watches: map[string]int{}}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		watching := r.URL.Query().Has("watch")
		w.mu.Lock()
		refused := watching && w.refuse != "" && strings.HasSuffix(r.URL.Path, w.refuse)
		if watching {
			w.watches[r.URL.Path]++
		} else {
			w.lists[r.URL.Path]++
		}
		answer := w.answer
		w.mu.Unlock()
		if refused {
			return nil, errors.New("the wire is cut")
		}
		if answer != nil {
			if resp := answer(r); resp != nil {
				return resp, nil
			}
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

func (w *wire) listed(suffix string) int { return w.count(w.lists, suffix) }

func (w *wire) watched(suffix string) int { return w.count(w.watches, suffix) }

func (w *wire) count(of map[string]int, suffix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for path, count := range of {
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
