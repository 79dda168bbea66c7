package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const (
	templatesPath   = "/apis/templates.gatekeeper.sh/v1/constrainttemplates"
	constraintsPath = "/apis/constraints.gatekeeper.sh/v1beta1/badlabels"
)

// badNamespace is where the policies that must stay in force are in force.
const badNamespace = "bad-input"

const inBadNamespace = `{kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [` + badNamespace + `]}`

// byKubectl are those whose refusal is read from kubectl too: one of each sort of
// answer.
var byKubectl = map[string]bool{"BadParse": true, "BadName": true, "parameters": true, "unknown": true, "action": true}

// TestBadInput shows everything that a user can get wrong to the API server with
// validation armed, then stores the same while it is not, and wants the same words
// in status and everything that was enforced before in force.
func TestBadInput(t *testing.T) {
	c := start(t)
	c.CreateNamespaces(t, badNamespace)
	for _, kind := range []string{"BadLabels", "Keeper", "Lost"} {
		c.Apply(t, fusegate.LabelTemplate(kind, "missing"))
		c.AwaitTemplate(t, strings.ToLower(kind))
	}
	c.Apply(t, fusegate.Constraint("Keeper", "keeper", "deny", "owner", inBadNamespace))
	c.Apply(t, fusegate.Constraint("BadLabels", "kept", "deny", "area", inBadNamespace))
	c.Apply(t, fusegate.Constraint("Lost", "lost", "dryrun", "x", inBadNamespace))
	c.AwaitCreate(t, fusegate.ConfigMap(badNamespace, "bare"), stillDenied)

	t.Run("broken YAML", c.brokenYAML)
	t.Run("at apply", c.refusedAtApply)
	t.Run("in place of what is in force", c.badVersions)
	t.Run("no template", c.noTemplate)
	t.Run("in status", c.recordedAfterOutage)
	if got := c.DryCreate(t, fusegate.ConfigMap(badNamespace, "bare")); got != stillDenied {
		t.Errorf("after all that: got %q, want %q", got, stillDenied)
	}
	c.clearBadInput(t)
}

// stillDenied is what the policies that must stay in force say of a bare
// ConfigMap.
const stillDenied = fusegate.Denied + "[kept] missing label area\n[keeper] missing label owner"

// brokenYAML never leaves kubectl.
func (c *testCluster) brokenYAML(t *testing.T) {
	for text, want := range map[string]string{
		"kind: [a\n":              "error: error parsing STDIN: error converting YAML to JSON: yaml: line 1: did not find expected ',' or ']'",
		"kind: a\n\tname: b\n":    "error: error parsing STDIN: error converting YAML to JSON: yaml: line 2: found a tab character that violates indentation",
		"metadata: {name: a}\n":   `error: error validating "STDIN": error validating data: [apiVersion not set, kind not set]; if you choose to ignore these errors, turn validation off with --validate=false`,
		goneConstraint("BadGone"): goneAtApply,
	} {
		if _, stderr, ok := c.Kubectl(t, controlplane.Admin, text, "apply", "-f", "-"); ok || strings.TrimSpace(stderr) != want {
			t.Errorf("%q\n got %q\nwant %q", text, strings.TrimSpace(stderr), want)
		}
	}
}

func goneConstraint(kind string) string { return fusegate.Constraint(kind, "gone", "deny", "x", "{}") }

const goneAtApply = `error: resource mapping not found for name: "gone" namespace: "" from "STDIN": ` +
	`no matches for kind "BadGone" in version "constraints.gatekeeper.sh/v1beta1"` + "\nensure CRDs are installed first"

// refusedAtApply wants each refusal by its words and its code.
func (c *testCluster) refusedAtApply(t *testing.T) {
	refused := func(t *testing.T, name, reason, path, text, want string, code int32) {
		t.Helper()
		if byKubectl[name] {
			_, stderr, _ := c.Kubectl(t, controlplane.Admin, text, "apply", "-f", "-")
			if got := strings.TrimSpace(stderr); got != want {
				t.Errorf("%s\n got %q\nwant %q", reason, got, want)
			}
		}
		var status apierrors.APIStatus
		err := c.post(t, path, text)
		if !errors.As(err, &status) || status.Status().Code != code {
			t.Fatalf("%s: got %v, want code %d", reason, err, code)
		}
		if got, want := status.Status().Message, kubectlsOwn.ReplaceAllString(want, ""); kubectlsOwn.ReplaceAllString(got, "") != want {
			t.Errorf("%s\n got %q\nwant %q", reason, got, want)
		}
	}
	for kind, tc := range badTemplates {
		t.Run(kind, func(t *testing.T) {
			refused(t, kind, tc.reason, templatesPath, tc.text(kind), tc.refused(strings.ToLower(kind)), http.StatusUnprocessableEntity)
		})
	}
	for name, tc := range badConstraints {
		t.Run(name, func(t *testing.T) {
			object := cmp.Or(tc.name, name)
			refused(t, name, tc.reason, constraintsPath, tc.text(object), tc.refused(object), cmp.Or(tc.code, http.StatusUnprocessableEntity))
		})
	}
}

// kubectlsOwn is what kubectl puts before an API server's message, and what stands
// in its place in the message.
var kubectlsOwn = regexp.MustCompile(`^(The request is invalid: error when creating "STDIN": |` +
	`Error from server \(BadRequest\): error when creating "STDIN": |(The )?\S+ "[^"]+" is invalid: )`)

// post creates an object with the strictness of kubectl.
func (c *testCluster) post(t *testing.T, path, object string) error {
	t.Helper()
	body, err := yaml.YAMLToJSON([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return c.send(t, http.MethodPost, path+"?fieldValidation=Strict", string(body))
}

// send writes JSON as it is, which kubectl and the typed clients write anew.
func (c *testCluster) send(t *testing.T, verb, uri, body string) error {
	t.Helper()
	config := rest.CopyConfig(c.CP.Config(controlplane.Admin))
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Verb(verb).RequestURI(uri).
		SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(t.Context()).Error()
}

// badVersions puts each bad version in the place of a good one past validation:
// the good one stays in force.
func (c *testCluster) badVersions(t *testing.T) {
	for kind, tc := range badTemplates {
		if tc.alone {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			c.unvalidated(t, tc.text("Keeper"))
			want := tc.status("keeper")
			want.Message = cmp.Or(tc.inPlace, want.Message)
			c.awaitRecorded(t, "constrainttemplate/keeper", want)
			if got := c.DryCreate(t, fusegate.ConfigMap(badNamespace, "bare")); got != stillDenied {
				t.Errorf("%s: got %q, want %q", tc.reason, got, stillDenied)
			}
		})
	}
	for name, tc := range badConstraints {
		if tc.before != "" {
			continue // the API server does not store it
		}
		t.Run(name, func(t *testing.T) {
			c.unvalidated(t, tc.text("kept"))
			c.awaitRecorded(t, "badlabels/kept", fusegate.PodError{Code: "ingest_error", Message: tc.want + " (generation 1 stays in force)"})
			if got := c.DryCreate(t, fusegate.ConfigMap(badNamespace, "bare")); got != stillDenied {
				t.Errorf("%s: got %q, want %q", tc.reason, got, stillDenied)
			}
		})
	}
	c.Apply(t, fusegate.LabelTemplate("Keeper", "missing"))
	c.Apply(t, fusegate.Constraint("BadLabels", "kept", "deny", "area", inBadNamespace))
}

// unvalidated applies a policy as a user whom Fusegate does not validate, as if
// its entry were not armed, while the manager runs.
func (c *testCluster) unvalidated(t *testing.T, text string) {
	t.Helper()
	c.ApplyAs(t, fusegate.APIServer, text)
}

// awaitRecorded returns once the manager has recorded this one error of the
// object as it is now.
func (c *testCluster) awaitRecorded(t *testing.T, object string, want fusegate.PodError) {
	t.Helper()
	c.Await(t, object, "the error in the status of "+object, func(u *unstructured.Unstructured) error {
		status := fusegate.StatusOf(t, u)
		for _, e := range status.ByPod {
			if e.ID == c.Manager.Name && e.ObservedGeneration == u.GetGeneration() {
				if diff := gocmp.Diff([]fusegate.PodError{want}, e.Errors); diff != "" || e.Enforced {
					return fmt.Errorf("enforced %t, errors (-want +got):\n%s", e.Enforced, diff)
				}
				if strings.HasPrefix(object, "constrainttemplate/") {
					return status.Condition("Ready", "False", "CompileError")
				}
				return nil
			}
		}
		return fmt.Errorf("no entry of generation %d in %+v", u.GetGeneration(), status)
	})
}

// orphaned is what the status of a constraint says whose template is gone.
var orphaned = fusegate.PodError{Code: "ingest_error", Message: `not enforced: there is no ConstraintTemplate "orphan": create it again, or delete this constraint`}

// orphanCRD is a constraint CRD that has no template: one that was deleted with
// --cascade=orphan leaves such a CRD, and so does a backup that lacks it.
const orphanCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: orphan.constraints.gatekeeper.sh, labels: {gatekeeper.sh/constraint: "yes"}}
spec:
  group: constraints.gatekeeper.sh
  scope: Cluster
  names: {kind: Orphan, listKind: OrphanList, plural: orphan, singular: orphan}
  versions:
  - name: v1beta1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// noTemplate writes a constraint of which nothing can come.
func (c *testCluster) noTemplate(t *testing.T) {
	c.CreateAll(t, orphanCRD)
	text := fusegate.Constraint("Orphan", "orphan", "deny", "orphan", inBadNamespace)
	const want = `Warning: Orphan "orphan" is not validated: its ConstraintTemplate is still being read, or gone; see its status`
	env.Await(t, "the warning", func() error {
		if got := c.DryCreate(t, text); got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
	c.Apply(t, text)
	c.awaitRecorded(t, "orphan/orphan", orphaned)
}

// loose takes away the schema of a constraint CRD, as somebody may who wants to
// store what it refuses.
const loose = `[
{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema","value":{"type":"object","x-kubernetes-preserve-unknown-fields":true}},
{"op":"replace","path":"/spec/versions/1/schema/openAPIV3Schema","value":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}]`

// recordedAfterOutage stores everything while no manager runs, so that nothing
// but the API server is asked, and wants the next one to say what is wrong.
func (c *testCluster) recordedAfterOutage(t *testing.T) {
	if err := c.Manager.End(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	crd := env.Object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "badlabels.constraints.gatekeeper.sh")
	if err := c.Client(t).Patch(t.Context(), crd, client.RawPatch(types.JSONPatchType, []byte(loose))); err != nil {
		t.Fatal(err)
	}
	texts := []string{strings.Replace(fusegate.LabelTemplate("Lost", "missing"), "not input", "not inputt", 1)}
	for kind, tc := range badTemplates {
		texts = append(texts, tc.text(kind))
	}
	for name, tc := range badConstraints {
		if tc.want != "" {
			texts = append(texts, tc.text(cmp.Or(tc.name, name)))
		}
	}
	for _, text := range texts {
		env.Await(t, "everything to be stored", func() error { return c.TryApply(t, controlplane.Admin, env.Parse(t, text)) })
	}
	c.Manager = c.Run(t, "afterwards", c.Port)
	c.Manager.AwaitReady(t)
	if got := c.DryCreate(t, fusegate.ConfigMap(badNamespace, "bare")); got != stillDenied {
		t.Errorf("when the manager is ready again: got %q, want %q", got, stillDenied)
	}
	for kind, tc := range badTemplates {
		name := strings.ToLower(kind)
		c.awaitRecorded(t, "constrainttemplate/"+name, tc.status(name))
	}
	for name, tc := range badConstraints {
		if tc.want != "" {
			c.awaitRecorded(t, "badlabels/"+cmp.Or(tc.name, name), fusegate.PodError{Code: "ingest_error", Message: tc.want})
		}
	}
	c.awaitRecorded(t, "orphan/orphan", orphaned)
	c.awaitRecorded(t, "lost/lost", fusegate.PodError{
		Code: "ingest_error", Message: `not enforced: ConstraintTemplate "lost" has errors, which its status names: mend it`,
	})
}

// clearBadInput mends what has lost its template, and deletes everything.
func (c *testCluster) clearBadInput(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"Orphan", "Lost"} {
		c.Apply(t, fusegate.LabelTemplate(kind, "missing"))
		c.AwaitTemplate(t, strings.ToLower(kind))
	}
	c.AwaitCreate(t, fusegate.ConfigMap(badNamespace, "bare"), strings.Replace(stillDenied, "[keeper]", "[orphan] missing label orphan\n[keeper]", 1))
	names := []string{"constrainttemplate/badlabels", "constrainttemplate/keeper", "constrainttemplate/lost", "constrainttemplate/orphan"}
	for kind := range badTemplates {
		names = append(names, "constrainttemplate/"+strings.ToLower(kind))
	}
	c.Delete(t, names...)
	c.AwaitCreate(t, fusegate.ConfigMap(badNamespace, "bare"), "")
}
