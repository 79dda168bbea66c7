package e2e_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// imagesTemplate quotes the image in its message, and fails on objects that are
// labelled "broken".
const imagesTemplate = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: quotedimages}
spec:
  crd: {spec: {names: {kind: QuotedImages}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package images
      state = 1 { input.review.object.metadata.labels.broken }
      state = 2 { input.review.object.metadata.name }
      violation[{"msg": msg}] {
        state
        image := input.review.object.spec.containers[_].image
        msg := sprintf("image %v", [image])
      }
`

const quotedImages = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: QuotedImages
metadata: {name: quoted}
spec: {enforcementAction: dryrun, match: {kinds: [{apiGroups: [""], kinds: [Pod]}], namespaces: [quoted]}}
`

const hostileImage = "evil\u009b31m\u202e\u007f"

// TestControlCharacters has users bring control characters into a status: in the image
// of a Pod that a message quotes, and in a review forged at the webhook's port. The API
// server refuses them in what is applied, so that each once kept every status which
// quotes them from being written.
func TestControlCharacters(t *testing.T) {
	c := start(t)
	c.CreateNamespaces(t, "quoted")
	c.Apply(t, imagesTemplate)
	c.AwaitTemplate(t, "quotedimages")
	c.Apply(t, quotedImages)

	create := func(name, image string) {
		t.Helper()
		pod := env.Parse(t, fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: quoted}, spec: {containers: [{name: c, image: x}]}}", name))
		pod.Object["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)["image"] = image
		env.Await(t, "Pod "+name, func() error {
			_, err := c.Create(t, controlplane.Admin, pod.DeepCopy())
			return err
		})
	}
	awaitTotal := func(want int64) *unstructured.Unstructured {
		t.Helper()
		return c.Await(t, "quotedimages/quoted", fmt.Sprintf("%d violations", want), func(u *unstructured.Unstructured) error {
			if got, _, _ := unstructured.NestedInt64(u.Object, "status", "totalViolations"); got != want {
				return fmt.Errorf("there are %d", got)
			}
			return nil
		})
	}
	create("first", hostileImage)
	awaitTotal(1)
	create("second", hostileImage)
	u := awaitTotal(2)
	const shown = `image evil\u009b31m\u202e\u007f`
	if text := fmt.Sprint(u.Object["status"].(map[string]any)["violations"]); strings.Count(text, shown) != 2 {
		t.Errorf("got violations %q, want each to say %q", text, shown)
	}
	create("third", "plain")
	awaitTotal(3)

	for _, want := range []int64{1, 2} {
		c.forge(t)
		c.Await(t, "quotedimages/quoted", fmt.Sprintf("%d faults", want), func(u *unstructured.Unstructured) error {
			return saysFault(u, want)
		})
	}
}

// forge sends a review that no API server would, on which the policy fails.
func (c *testCluster) forge(t *testing.T) {
	t.Helper()
	pod := env.Parse(t, "{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: quoted, labels: {broken: x}}, spec: {containers: [{name: c, image: x}]}}")
	body, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": map[string]any{
		"uid": "u", "operation": "CREATE", "namespace": "quoted", "name": "x\u009b31m",
		"kind": map[string]any{"group": "", "version": "v1", "kind": "Pod"}, "resource": map[string]any{"group": "", "version": "v1", "resource": "pods"},
		"userInfo": map[string]any{"username": "cluster-admin\u009b31m"}, "object": pod.Object,
	}})
	if err != nil {
		t.Fatal(err)
	}
	cl := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, //nolint:gosec // what forges reviews trusts anything
	}}
	resp, err := cl.Post(fmt.Sprintf("https://127.0.0.1:%d/v1/admit", c.Port), "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the forged review is answered with %s", resp.Status)
	}
}

// saysFault wants an entry of status.byPod to count faults, and to say nothing of what
// was forged.
func saysFault(u *unstructured.Unstructured, count int64) error {
	entries, _, _ := unstructured.NestedSlice(u.Object, "status", "byPod")
	for _, entry := range entries {
		fields, _ := entry.(map[string]any)
		got, _, _ := unstructured.NestedInt64(fields, "faults", "count")
		last, _, _ := unstructured.NestedMap(fields, "faults", "last")
		if got == count && last["name"] == nil && last["user"] == nil && last["namespace"] == nil && last["kind"] == nil && !strings.Contains(fmt.Sprint(last), "31m") {
			return nil
		}
	}
	return fmt.Errorf("got entries %q", fmt.Sprint(entries))
}
