package inventory

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
)

var podKind = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}

// lookups reads one object of the inventory by its name, and another one that
// is not there.
const lookups = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: lookups}
spec:
  crd: {spec: {names: {kind: Lookups}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package lookups
      violation[{"msg": msg}] {
        other := data.inventory.namespace[input.review.namespace].v1.Pod[input.review.object.twin]
        not data.inventory.cluster.v1.Node[other.spec.nodeName]
        msg := sprintf("%v is on %v", [other.metadata.name, other.spec.nodeName])
      }
`

// somePod is as big as Pods are.
const somePod = `
apiVersion: v1
kind: Pod
metadata:
  name: web-NUMBER
  namespace: team-TEAM
  uid: 6ba7b810-9dad-11d1-80b4-NUMBER
  resourceVersion: "NUMBER"
  creationTimestamp: "2026-01-01T00:00:00Z"
  labels: {app: web, pod-template-hash: 5d4f8c7b9, team: team-TEAM}
  annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080"}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d4f8c7b9, uid: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, controller: true, blockOwnerDeletion: true}]
  managedFields:
  - {manager: kube-controller-manager, operation: Update, apiVersion: v1, time: "2026-01-01T00:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:metadata": {"f:labels": {"f:app": {}, "f:team": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}, "f:memory": {}}}}}}}}
spec:
  serviceAccountName: web
  nodeName: node-TEAM
  restartPolicy: Always
  dnsPolicy: ClusterFirst
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 300}, {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 300}]
  volumes: [{name: kube-api-access, projected: {defaultMode: 420, sources: [{serviceAccountToken: {expirationSeconds: 3607, path: token}}, {configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}}]}}]
  containers:
  - name: web
    image: registry.example.com/web:1.2.3
    imagePullPolicy: IfNotPresent
    ports: [{containerPort: 8080, protocol: TCP}]
    env: [{name: LOG_LEVEL, value: info}, {name: POD_NAME, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}]
    resources: {limits: {cpu: 500m, memory: 256Mi}, requests: {cpu: 100m, memory: 128Mi}}
    volumeMounts: [{name: kube-api-access, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
status:
  phase: Running
  hostIP: 10.0.0.TEAM
  podIP: 10.1.TEAM.1
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:10Z"}, {type: PodScheduled, status: "True", lastTransitionTime: "2026-01-01T00:00:01Z"}]
  containerStatuses: [{name: web, ready: true, restartCount: 0, image: registry.example.com/web:1.2.3, started: true, state: {running: {startedAt: "2026-01-01T00:00:09Z"}}}]
`

// pods decodes as many Pods as an API server's answer would be.
func pods(b testing.TB, n int) []*unstructured.Unstructured {
	b.Helper()
	pattern, err := yaml.YAMLToJSON([]byte(somePod))
	if err != nil {
		b.Fatal(err)
	}
	out := make([]*unstructured.Unstructured, n)
	for i := range out {
		out[i] = &unstructured.Unstructured{}
		if err := out[i].UnmarshalJSON([]byte(strings.NewReplacer("NUMBER", strconv.Itoa(i), "TEAM", strconv.Itoa(i%50)).Replace(string(pattern)))); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// filled is a kind that holds n Pods, in an engine that reads them.
func filled(b testing.TB, n int) (*engine.Engine, *kind) {
	b.Helper()
	e, err := engine.New()
	if err != nil {
		b.Fatal(err)
	}
	i, err := New(Options{Engine: e, Client: noClient{}, Discovery: noDiscovery{}})
	if err != nil {
		b.Fatal(err)
	}
	k := newKind(i, podKind)
	all := pods(b, n)
	for _, u := range all {
		k.trim(u)
	}
	k.replace(all)
	return e, k
}

// BenchmarkReview compares a review that looks objects up by name among 100 with
// one that does among 100,000. They take turns, since machines are noisy.
func BenchmarkReview(b *testing.B) {
	sizes := []int{100, 100_000}
	engines, took := make([]*engine.Engine, len(sizes)), make([][]time.Duration, len(sizes))
	for i, n := range sizes {
		engines[i], _ = filled(b, n)
		judge(b, engines[i], lookups)
	}
	r := &policy.Review{Kind: podKind, Name: "p", Namespace: "team-7", Operation: policy.Create, Point: policy.PointWebhook,
		Object: map[string]any{"twin": "web-57"}, NamespaceObject: policy.Namespace{Known: true}}
	for b.Loop() {
		for i, e := range engines {
			start := time.Now()
			if got := e.Review(b.Context(), r); len(got.Violations) != 1 {
				b.Fatalf("got %+v", got)
			}
			took[i] = append(took[i], time.Since(start))
		}
	}
	for i, n := range sizes {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][len(took[i])/2]), fmt.Sprintf("ns/median-of-%d", n))
	}
}

// judge adds a template and a constraint of it on everything.
func judge(b *testing.B, e *engine.Engine, template string) {
	b.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(template), &u.Object); err != nil {
		b.Fatal(err)
	}
	t, err := engine.ParseTemplate(u)
	if err != nil {
		b.Fatal(err)
	}
	if err := e.AddTemplate(b.Context(), t); err != nil {
		b.Fatal(err)
	}
	c := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "c"}}}
	c.SetAPIVersion(engine.ConstraintGroup + "/v1beta1")
	c.SetKind(t.Spec.CRD.Spec.Names.Kind)
	if err := e.AddConstraint(b.Context(), c); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFill takes 10,000 objects in at once, as a list does, and one by one,
// as a watch does.
func BenchmarkFill(b *testing.B) {
	all := pods(b, 10_000)
	_, k := filled(b, 0)
	for _, u := range all {
		k.trim(u)
	}
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			k.replace(all)
		}
	})
	b.Run("watch", func(b *testing.B) {
		for b.Loop() {
			for _, u := range all {
				k.put(u)
			}
		}
	})
}

// BenchmarkMemory reports what an object takes, as it is decoded and as it is
// kept, and what the metric says.
func BenchmarkMemory(b *testing.B) {
	const n = 10_000
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		empty := heap()
		all := pods(b, n)
		b.ReportMetric((heap()-empty)/n, "decoded-B/object")
		runtime.KeepAlive(all)
		all = nil
		empty = heap()
		e, k := filled(b, n)
		b.ReportMetric((heap()-empty)/n, "kept-B/object")
		b.ReportMetric(float64(k.bytes)/n, "metric-B/object")
		runtime.KeepAlive(e)
	}
}
