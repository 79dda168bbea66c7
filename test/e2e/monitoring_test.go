package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// TestMonitoring scrapes real processes that have been through something, and
// has every query of the alerts and of the dashboard find what it looks for.
func TestMonitoring(t *testing.T) {
	c := start(t)
	leader := c.monitored(t)
	c.CreateNamespaces(t, "monitored")
	c.CreateAll(t, fusegate.ConfigMap("monitored", "bare"))
	c.Apply(t, fusegate.LabelTemplate("MonitorLabels", "missing"))
	// It asks for Deployments in data.inventory.
	c.Apply(t, strings.Replace(strings.Replace(fusegate.LabelTemplate("MonitorOthers", "missing"), "not input.review", "not data.inventory.namespace.x; not input.review", 1),
		"metadata: {name: monitorothers}", `metadata: {name: monitorothers, annotations: {metadata.gatekeeper.sh/requires-sync-data: '[[{"groups": ["apps"], "versions": ["v1"], "kinds": ["Deployment"]}]]'}}`, 1))
	c.AwaitTemplate(t, "monitorlabels")
	c.AwaitTemplate(t, "monitorothers")
	const match = `{kinds: [{apiGroups: ["", apps], kinds: [ConfigMap, Deployment]}], namespaces: [monitored, kube-public]}`
	for name, action := range map[string]string{"denied": "deny", "watched": "dryrun"} {
		c.Apply(t, fusegate.Constraint("MonitorLabels", name, action, "owner", match))
	}
	c.Apply(t, fusegate.Constraint("MonitorLabels", "unserved", "deny", "owner", "{kinds: [{apiGroups: [example.com], kinds: [Nothing]}]}"))
	enforced := func() {
		t.Helper()
		c.AwaitCondition(t, "monitorlabels/denied", "True", "")
	}
	enforced()
	c.letThrough(t, leader)
	enforced()
	c.awaitReportIs(t, "Reported")

	awaitMore(t, leader, "fusegate_inventory_objects{")
	dir := t.TempDir()
	c.scrape(t, dir, 0, leader)
	if got := c.DryCreate(t, fusegate.ConfigMap("monitored", "other")); !strings.Contains(got, "missing label owner") {
		t.Errorf("got %q, want a denial", got)
	}
	awaitMore(t, leader, `fusegate_canary_answers_total{entry="policy",outcome="Denied"`)
	served := c.scrape(t, dir, 1, leader)
	t.Run("queries", func(t *testing.T) {
		out, err := exec.CommandContext(t.Context(), "go", "run", "-C", filepath.Join("..", "..", "hack", "monitoring"), ".", "-scrapes", dir).CombinedOutput()
		if err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		t.Logf("%s", out)
	})
	t.Run("documentation", func(t *testing.T) {
		if diff := cmp.Diff(documented(t), served); diff != "" {
			t.Errorf("the table of docs/monitoring.md (-there +served):\n%s", diff)
		}
	})
	t.Run("kustomize", c.kustomizeMonitoring)

	for _, m := range []*fusegate.Manager{leader, c.Manager} {
		if err := m.End(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	c.Manager = c.Run(t, "unmonitored", c.Port)
	c.Manager.AwaitReady(t)
	t.Run("without reports", c.withoutReports)
	c.Delete(t, "constrainttemplate/monitorlabels", "constrainttemplate/monitorothers")
}

// withoutReports finds something when nobody has asked for report objects.
func (c *testCluster) withoutReports(t *testing.T) {
	before := c.reports(t)
	if !strings.Contains(before, "Report fusegate-") || !strings.Contains(before, "PolicyReport fusegate-") {
		t.Errorf("got %q, want the reports that the leader before has written", before)
	}
	c.Delete(t, "monitorlabels/denied")
	env.Await(t, "the object to be let in", func() error {
		return c.TryApply(t, controlplane.Admin, env.Parse(t, fusegate.ConfigMap("monitored", "unreported")))
	})
	c.Await(t, "monitorlabels/watched", "the audit", func(u *unstructured.Unstructured) error {
		if got := auditStatusOf(u).Violations; !strings.Contains(fmt.Sprint(got), "unreported") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	c.Await(t, "ar/cluster", "the condition Reported to go", func(u *unstructured.Unstructured) error {
		if status := fmt.Sprint(u.Object["status"]); strings.Contains(status, "Reported") {
			return fmt.Errorf("got %s", status)
		}
		return nil
	})
	if after := c.reports(t); after != before {
		t.Errorf("reports were written: got %q, want %q", after, before)
	}
}

// reports are the names of all report objects.
func (c *testCluster) reports(t *testing.T) string {
	t.Helper()
	var names []string
	for kind, version := range map[string]string{"Report": "openreports.io/v1alpha1", "PolicyReport": "wgpolicyk8s.io/v1alpha2"} {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(version)
		list.SetKind(kind + "List")
		if err := c.Client(t).List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		for _, u := range list.Items {
			names = append(names, kind+" "+u.GetName())
		}
	}
	slices.Sort(names)
	return strings.Join(names, "\n")
}

// monitored runs the two roles as two processes, the leader with reports.
func (c *testCluster) monitored(t *testing.T) *fusegate.Manager {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "manifests", "crds", "reports", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no CRDs of reports: %v", err)
	}
	for _, file := range files {
		c.Apply(t, env.Read(t, file))
		for _, crd := range fusegate.Documents(t, env.Read(t, file)) {
			env.AwaitObject(t, c.Client(t), crd, crd.GetName()+" to be established", func(u *unstructured.Unstructured) error {
				return fusegate.StatusOf(t, u).Condition("Established", "True", "")
			})
		}
	}
	c.Split(t)
	leader := fusegate.Serve(t, "leader", "--roles=controller", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin),
		"--reports=openreports,policyreport", "--audit-resync=2s")
	leader.AwaitReady(t)
	return leader
}

// letThrough has API servers let requests through, and the guard mend what
// somebody breaks.
func (c *testCluster) letThrough(t *testing.T, leader *fusegate.Manager) {
	t.Helper()
	if err := c.Manager.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitMore(t, leader, `fusegate_canary_answers_total{entry="policy",outcome="Admitted"`)
	env.Await(t, "API servers to count it", func() error {
		if text := c.metrics(t); !strings.Contains(text, `apiserver_admission_webhook_fail_open_count{name="validation.fusegate.dev"`) {
			return fmt.Errorf("they do not")
		}
		return nil
	})
	c.Manager = fusegate.Serve(t, "webhook-again", "--roles=webhook", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin),
		"--listen", fmt.Sprintf("127.0.0.1:%d", c.Port), "--cert-dir", c.Dir)
	c.Manager.AwaitReady(t)
	meddled := env.Object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", "fusegate")
	patch := []byte(`[{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 9}]`)
	if err := c.Client(t).Patch(t.Context(), meddled, client.RawPatch(types.JSONPatchType, patch)); err != nil {
		t.Fatal(err)
	}
	awaitMore(t, leader, `fusegate_guard_restores_total{`)
}

// metrics are the API server's.
func (c *testCluster) metrics(t *testing.T) string {
	t.Helper()
	cl, err := kubernetes.NewForConfig(c.CP.Config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	text, err := cl.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// awaitMore waits until a metric whose line begins so is there; a count of
// canaries has to grow, too.
func awaitMore(t *testing.T, m *fusegate.Manager, prefix string) {
	t.Helper()
	var first string
	env.Await(t, prefix+" to grow", func() error {
		_, body, err := fusegate.Fetch("http://" + m.Metrics + "/metrics")
		if err != nil {
			return err
		}
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, prefix) {
				continue
			}
			if !strings.HasPrefix(prefix, "fusegate_canary") || first != "" && first != line {
				return nil
			}
			first = line
			return fmt.Errorf("got %s", line)
		}
		return fmt.Errorf("there is none")
	})
}

// scrape writes what all processes serve into files, as hack/monitoring reads
// them, and returns the labels of each metric of Fusegate's.
func (c *testCluster) scrape(t *testing.T, dir string, number int, leader *fusegate.Manager) map[string]string {
	t.Helper()
	texts := map[string]string{"apiserver_one": c.metrics(t)}
	out := map[string]string{}
	for name, m := range map[string]*fusegate.Manager{"leader": leader, "webhook": c.Manager} {
		_, body, err := fusegate.Fetch("http://" + m.Metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		texts["fusegate-metrics_"+name] = body + "\n"
		maps.Copy(out, labelled(t, body+"\n"))
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d_%s.prom", number, name)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// labelled are the metrics of Fusegate's in a text, with their labels.
func labelled(t *testing.T, text string) map[string]string {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for name, f := range families {
		if !strings.HasPrefix(name, "fusegate_") {
			continue
		}
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		out[name] = strings.Join(slices.Sorted(maps.Keys(labels)), " ")
	}
	return out
}

// documented are the metrics of the table, with their labels.
func documented(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	_, section, _ := strings.Cut(env.Read(t, "..", "..", "docs", "monitoring.md"), "\n## Metrics\n")
	for _, row := range regexp.MustCompile("(?m)^\\| `(fusegate_\\w+)(?:{([\\w,]*)})?` \\|").FindAllStringSubmatch(section, -1) {
		labels := strings.Split(row[2], ",")
		slices.Sort(labels)
		out[row[1]] = strings.Join(labels, " ")
	}
	return out
}

// kustomizeMonitoring has a real kubectl build what is there for monitoring.
func (c *testCluster) kustomizeMonitoring(t *testing.T) {
	out := c.Must(t, "", "kustomize", filepath.Join("..", "..", "manifests", "monitoring"))
	for _, want := range []string{
		"kind: ServiceMonitor", "kind: PrometheusRule", "kind: Service\n", "kind: ConfigMap", `grafana_dashboard: "1"`, "name: fusegate-dashboard",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in what kustomize builds", want)
		}
	}
}
