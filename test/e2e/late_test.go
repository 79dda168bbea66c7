package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// lateTemplate has a violation for each privileged container and each argument, and
// quotes all of it.
const lateTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: late%[1]d}
spec:
  crd: {spec: {names: {kind: Late%[1]d}, validation: {openAPIV3Schema: {type: object, properties: {word: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package late
      specs[s] { s := input.review.object.spec }
      specs[s] { s := input.review.object.template.spec }
      violation[{"msg": msg, "details": {"container": c.name, "of": %[1]d}}] {
        specs[s]
        c := s.containers[_]
        c.securityContext.privileged
        msg := sprintf("%%v: privileged container is not allowed: %%v, securityContext: %%v", [input.parameters.word, c.name, c.securityContext])
      }
      violation[{"msg": msg, "details": {"argument": a, "of": %[1]d}}] {
        specs[s]
        a := s.containers[_].args[_]
        startswith(a, "bad")
        msg := sprintf("%%v: the argument is not allowed: %%v", [input.parameters.word, a])
      }
`

const lateConstraint = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Late%d
metadata: {name: late-%d}
spec:
  match: {kinds: [{apiGroups: [""], kinds: [Pod, PodTemplate]}], namespaces: [late]}
  parameters: {word: word-%d}
`

// lateKinds templates have five constraints each.
const lateKinds = 5

// lateContainers is a list of privileged containers.
func lateContainers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"name":"c%05d","image":"x","securityContext":{"privileged":true}}`, i)
	}
	return b.String()[1:]
}

func latePod(name string, containers int) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"late"},"spec":{"hostPID":true,"containers":[%s]}}`, name, lateContainers(containers))
}

// latePodTemplate breaks the same constraints as often by what has no bound.
func latePodTemplate(name string, arguments int) string {
	var b strings.Builder
	for i := range arguments {
		fmt.Fprintf(&b, `,"bad-%05d"`, i)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"PodTemplate","metadata":{"name":%q,"namespace":"late"},"template":{"spec":{"containers":[{"name":"c","image":"x","args":[%s]}]}}}`, name, b.String()[1:])
}

// TestLateAnswer sends eight objects at once, each of which breaks 25 constraints
// thousands of times, three times in a row. An answer that comes too late lets an
// object in: none may be stored, and what is said of each is short. Nothing runs beside
// it, since what an API server takes to send a request counts in the time that it waits.
func TestLateAnswer(t *testing.T) {
	c := alone(t)
	c.Must(t, "", "create", "namespace", "late")
	for i := range lateKinds {
		c.Must(t, fmt.Sprintf(lateTemplate, i), "apply", "-f", "-")
		c.AwaitTemplate(t, fmt.Sprintf("late%d", i))
		for j := range 5 {
			c.Must(t, fmt.Sprintf(lateConstraint, i, 5*i+j, 5*i+j), "apply", "-f", "-")
		}
	}
	for i := range 5 * lateKinds {
		c.AwaitEnforced(t, fmt.Sprintf("late%d/late-%d", i/5, i))
	}
	for name, tc := range map[string]struct {
		reason, uri string
		object      func(name string) string
		want        string
	}{
		"more containers than are judged": {
			reason: "it is refused unseen", uri: "/api/v1/namespaces/late/pods",
			object: func(name string) string { return latePod(name, 3500) }, want: "the object has 3500 containers, and no more than 1000 are judged (maxObjectContainers)",
		},
		"as many as are judged": {
			reason: "it is denied, and the rest is counted", uri: "/api/v1/namespaces/late/pods",
			object: func(name string) string { return latePod(name, 1000) }, want: " more",
		},
		"many of what has no bound": {
			reason: "it is denied, and the rest is counted", uri: "/api/v1/namespaces/late/podtemplates",
			object: func(name string) string { return latePodTemplate(name, 3500) }, want: " more",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for round := range 3 {
				c.storm(t, tc.uri, func(i int) string { return tc.object(fmt.Sprintf("late-%d-%d", round, i)) }, tc.want)
			}
			for _, kind := range []string{"Pod", "PodTemplate"} {
				stored := &metav1.PartialObjectMetadataList{}
				stored.APIVersion, stored.Kind = "v1", kind+"List"
				if err := c.Client(t).List(t.Context(), stored, client.InNamespace("late")); err != nil || len(stored.Items) > 0 {
					t.Errorf("%s: %d of %s are stored, %v", tc.reason, len(stored.Items), kind, err)
				}
			}
		})
	}
	for i := range lateKinds {
		c.Must(t, "", "delete", "constrainttemplate", fmt.Sprintf("late%d", i))
	}
}

// storm sends eight objects at once, and wants each to be denied by a short text. On a
// slow machine some are denied for the load of the others, and not judged.
func (c *testCluster) storm(t *testing.T, uri string, object func(i int) string, want string) {
	t.Helper()
	var wg sync.WaitGroup
	var judged atomic.Int64
	for i := range 8 {
		body := object(i)
		wg.Go(func() {
			sent := time.Now()
			err := c.send(t, http.MethodPost, uri, body)
			if err == nil {
				t.Errorf("it was let in after %v", time.Since(sent))
				return
			}
			text := err.Error()
			if apierrors.IsTooManyRequests(err) && strings.Contains(text, `namespace "late" has more requests in progress than its share`) {
				return
			}
			judged.Add(1)
			if !strings.Contains(text, "denied the request: [late-") || !strings.Contains(text, want) || len(text) > 9<<10 {
				t.Errorf("got %d bytes after %v: %.1000s", len(text), time.Since(sent), text)
			}
		})
	}
	wg.Wait()
	if judged.Load() == 0 {
		t.Error("all were denied for their load, want one judged at least")
	}
}

// endlessTemplate is never done, inside of a builtin that counts no steps.
const endlessTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: zendless}
spec:
  crd: {spec: {names: {kind: ZEndless}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package endless
      violation[{"msg": "never"}] {
        n := numbers.range(1, 3000)
        n[i]
        n[j]
        sprintf("%v", [regex.replace(sprintf("%v", [n]), "[0-9]", "x")]) == ""
      }
`

// TestCutOffIsAudited: what is not judged of a request that is denied is in the API
// server's audit log, by the key that is documented.
func TestCutOffIsAudited(t *testing.T) {
	dir := t.TempDir()
	file, trail := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	text := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata, namespaces: [cut], resources: [{group: \"\", resources: [configmaps]}]}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &testCluster{fusegate.On(t, env.Start(t, controlplane.Options{
		ControllerManager: true, APIServerArgs: []string{"--audit-policy-file=" + file, "--audit-log-path=" + trail},
	}))}
	if out, err := fusegate.Command(c.Outside()...).CombinedOutput(); err != nil {
		t.Fatalf("installing: %v: %s", err, out)
	}
	m := c.Run(t, "only", c.Port)
	m.EndWithTest(t)
	m.AwaitReady(t)
	c.Must(t, "", "create", "namespace", "cut")
	match := `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [cut]}`
	c.Must(t, fusegate.LabelTemplate("AFirst", "missing"), "apply", "-f", "-")
	c.AwaitTemplate(t, "afirst")
	c.Must(t, fusegate.Constraint("AFirst", "first", "deny", "owner", match), "apply", "-f", "-")
	c.AwaitEnforced(t, "afirst/first")
	c.Must(t, endlessTemplate, "apply", "-f", "-")
	c.AwaitTemplate(t, "zendless")
	endless, _, _ := strings.Cut(fusegate.Constraint("ZEndless", "endless", "deny", "x", match), "  parameters:")
	c.Must(t, endless, "apply", "-f", "-")
	c.AwaitEnforced(t, "zendless/endless")

	got := c.DryCreate(t, fusegate.ConfigMap("cut", "unlabelled"))
	if want := fusegate.Denied + "[first] missing label owner"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	env.Await(t, "the audit event", func() error {
		log, err := os.Open(trail)
		if err != nil {
			return err
		}
		defer func() { _ = log.Close() }()
		lines := bufio.NewScanner(log)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e auditv1.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err == nil && e.Annotations["validation.fusegate.dev/cut-off"] == "ZEndless/endless" {
				return nil
			}
		}
		return fmt.Errorf("no event of %s names what was cut off", env.Read(t, trail))
	})
	if n := m.Counter(t, "fusegate_admission_cut_off_total"); n < 1 {
		t.Errorf("counted %v constraints as cut off", n)
	}
}
