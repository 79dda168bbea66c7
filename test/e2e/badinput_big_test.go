package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const (
	// bodyLimit is the largest request that an API server takes, in bytes
	// (MaxRequestBodyBytes in k8s.io/apiserver pkg/server/config.go).
	bodyLimit = 3 << 20

	bigMatch     = `{kinds: [{apiGroups: [""], kinds: [PodTemplate]}], namespaces: [big]}`
	podTemplates = "/api/v1/namespaces/big/podtemplates"
	bigDenied    = `admission webhook "validation.fusegate.dev" denied the request: [big] missing label owner`
	bodyTooLarge = `Error from server (RequestEntityTooLarge): error when creating "STDIN": Request entity too large: limit is 3145728`
)

// podTemplate is JSON of about size bytes: fill as often as there is room.
// The field that holds it has no limit of its own.
func podTemplate(name, label, fill string, size int) string {
	text := podTemplateOf(name, label, `"args":["FILLING"]`)
	return strings.Replace(text, "FILLING", strings.Repeat(fill, (size-len(text))/len(fill)), 1)
}

func podTemplateOf(name, label, container string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"PodTemplate","metadata":{"name":%q,"namespace":"big","labels":{%q:"x"}},`+
		`"template":{"spec":{"containers":[{"name":"c","image":"registry.example.com/fusegate.Pause",%s}]}}}`, name, label, container)
}

// TestBigObject takes objects of up to and over what the API server accepts
// through admission: each that reaches Fusegate is judged.
func TestBigObject(t *testing.T) {
	c := alone(t) // to judge the largest takes a good part of the webhook's time-out
	c.CreateNamespaces(t, "big")
	c.Apply(t, fusegate.LabelTemplate("BigLabels", "missing"))
	c.AwaitTemplate(t, "biglabels")
	c.Apply(t, fusegate.Constraint("BigLabels", "big", "deny", "owner", bigMatch))
	c.AwaitCreate(t, podTemplate("small", "other", "x", 1000), fusegate.Denied+"[big] missing label owner")

	for name, tc := range map[string]struct {
		reason string
		object string
		args   []string
		want   string
		judged bool
	}{
		"just under the limit": {
			reason: "it is judged like any other",
			object: podTemplate("big", "other", "x", bodyLimit-1000), args: []string{"create", "--dry-run=server"},
			want: `Error from server (Forbidden): error when creating "STDIN": ` + bigDenied, judged: true,
		},
		"server-side apply": {
			reason: "it is judged like any other",
			object: podTemplate("big", "other", "x", bodyLimit-1000), args: []string{"apply", "--server-side"},
			want: "Error from server (Forbidden): " + bigDenied, judged: true,
		},
		"over the limit": {
			reason: "the API server does not read it",
			object: podTemplate("big", "other", "x", bodyLimit+1000), args: []string{"create"},
			want: bodyTooLarge,
		},
		"client-side apply": {
			reason: "kubectl sends it twice, the second time in an annotation",
			object: podTemplate("big", "other", "x", bodyLimit-1000), args: []string{"apply"},
			want: bodyTooLarge,
		},
		"too big to be stored": {
			reason: "Fusegate lets it through, and etcd's client does not",
			object: podTemplate("big", "owner", "x", bodyLimit-1000), args: []string{"create"},
			want: `Error from server: error when creating "STDIN": rpc error: code = ResourceExhausted desc = trying to send message larger than max`, judged: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.Manager.Reviews(t)
			_, stderr, ok := c.Kubectl(t, controlplane.Admin, tc.object, append(tc.args, "--validate=false", "-f", "-")...)
			if got := strings.TrimSpace(stderr); ok || !strings.HasPrefix(got, tc.want) {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
			if judged := c.Manager.Reviews(t) > before; judged != tc.judged {
				t.Errorf("%s: judged %t, want %t", tc.reason, judged, tc.judged)
			}
		})
	}
	t.Run("largest review", c.largestReview)
	t.Run("more than can be judged", c.neverDone)
	c.Delete(t, "constrainttemplate/biglabels")
}

// largestReview updates an object to one that becomes six times its size in the
// AdmissionReview, beside the old one, which is as large as etcd takes.
func (c *testCluster) largestReview(t *testing.T) {
	if err := c.send(t, http.MethodPost, podTemplates, podTemplate("stored", "owner", "<", 1400<<10)); err != nil {
		t.Fatal(err)
	}
	larger := podTemplate("stored", "other", "<", bodyLimit-1000)
	env.Await(t, "the largest review to be answered in time", func() error {
		sent := time.Now()
		err := c.send(t, http.MethodPut, podTemplates+"/stored?dryRun=All", larger)
		if took := time.Since(sent); err == nil && took > bodyTime {
			return fmt.Errorf("let in after %v", took) // a loaded machine took the time
		}
		if err == nil || err.Error() != bigDenied {
			t.Fatalf("got %v, want %q", err, bigDenied)
		}
		return nil
	})
}

// bodyTime is less than what the webhook gives a body to arrive, half of its
// time-out of 3 s: what is let in sooner was not let in for want of time.
const bodyTime = time.Second

// slow is what a write may take at most of which the webhook has its time-out and
// the API server, on a loaded machine, the rest.
const slow = 15 * time.Second

// bigPairs compares each of a container's arguments with each.
const bigPairs = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: bigpairs}
spec:
  crd: {spec: {names: {kind: BigPairs}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package pairs
      violation[{"msg": "pair"}] {
        args := input.review.object.template.spec.containers[0].args
        concat("", [args[i], args[j]]) == "ab"
      }
`

// neverDone sends an object of so many values that a policy cannot be done with
// it. It comes to the limit of an evaluation, which is the same everywhere, and
// so does not let the object in; the other policies are heard too.
func (c *testCluster) neverDone(t *testing.T) {
	c.Apply(t, bigPairs)
	c.AwaitTemplate(t, "bigpairs")
	pairs, _, _ := strings.Cut(fusegate.Constraint("BigPairs", "pairs", "deny", "x", bigMatch), "  parameters:")
	c.Apply(t, pairs)
	c.AwaitCreate(t, podTemplateOf("small", "owner", `"args":["a","b"]`), fusegate.Denied+"[pairs] pair")

	sent := time.Now()
	many := podTemplateOf("many", "owner", `"args":["c"`+strings.Repeat(`,"c"`, 500_000)+"]")
	err := c.send(t, http.MethodPost, podTemplates+"?dryRun=All", many)
	if err == nil || !strings.Contains(err.Error(), "[pairs]") || !strings.Contains(err.Error(), "evaluation limit exceeded") {
		t.Errorf("got %v, want a denial that says that the policy failed on it", err)
	}
	if took := time.Since(sent); took > slow {
		t.Errorf("it took %v, want less than %v", took, slow)
	}
	const want = `"constraint_kind": "BigPairs", "constraint_name": "pairs", "cause": "Input"`
	env.Await(t, "the fault to be logged", func() error {
		if log := c.Manager.Log.String(); !strings.Contains(log, want) {
			return fmt.Errorf("got the log %s, want %s in it", log, want)
		}
		return nil
	})
	c.Delete(t, "constrainttemplate/bigpairs")
}
