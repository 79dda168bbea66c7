package perimeter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// workloadKinds are what the request table lets through to the webhook when a
// controller creates it.
var workloadKinds = map[schema.GroupResource]bool{
	{Resource: "pods"}: true, {Group: "apps", Resource: "replicasets"}: true, {Group: "batch", Resource: "jobs"}: true,
	{Resource: "persistentvolumeclaims"}: true, {Group: "resource.k8s.io", Resource: "resourceclaims"}: true,
}

// arrival says of what sort a request at the webhook is; "" is one that should
// not have arrived.
func arrival(r admissionv1.AdmissionRequest) string {
	gr := schema.GroupResource{Group: r.Resource.Group, Resource: r.Resource.Resource}
	_, controller := strings.CutPrefix(r.UserInfo.Username, kubeSystemUser)
	switch {
	case gr.Group == "fusegate.dev" && gr.Resource == "canaries":
		return "Fusegate's canaries"
	case r.Name == exempt.ProbeName:
		return "Fusegate's probes"
	case gr.Group == "templates.gatekeeper.sh" || gr.Group == "constraints.gatekeeper.sh":
		return "policies, by " + r.UserInfo.Username
	case exempt.Perimeter{}.ExemptNamespace(r.Namespace):
		return ""
	case r.UserInfo.Username == asTenant || r.UserInfo.Username == asAdmin:
		return "requests by the " + r.UserInfo.Username
	case controller && r.Operation == admissionv1.Create && workloadKinds[gr] && r.SubResource == "":
		return fmt.Sprintf("on a tenant's behalf: %s by %s", gr, strings.TrimPrefix(r.UserInfo.Username, kubeSystemUser))
	}
	return ""
}

func describeArrival(r admissionv1.AdmissionRequest) string {
	return fmt.Sprintf("%s %s %s/%s %q by %s of %q", r.Operation, schema.GroupResource{Group: r.Resource.Group, Resource: r.Resource.Resource},
		r.Namespace, r.Name, r.SubResource, r.UserInfo.Username, r.UserInfo.Groups)
}

// wantedSorts are the sorts of workload that must arrive, or the components did
// not do what this is about.
var wantedSorts = []string{
	"pods by replicaset-controller", "pods by job-controller", "pods by daemon-set-controller", "pods by statefulset-controller",
	"pods by replication-controller", "replicasets.apps by deployment-controller", "jobs.batch by cronjob-controller",
	"persistentvolumeclaims by statefulset-controller", "persistentvolumeclaims by ephemeral-volume-controller",
	"resourceclaims.resource.k8s.io by resource-claim-controller",
}

// missingSorts are those of wantedSorts that have not arrived.
func missingSorts(requests []admissionv1.AdmissionRequest) []string {
	seen := map[string]bool{}
	for _, r := range requests {
		seen[arrival(r)] = true
	}
	return slices.DeleteFunc(slices.Clone(wantedSorts), func(s string) bool { return seen["on a tenant's behalf: "+s] })
}

// checkArrivals sorts what arrived.
func checkArrivals(t *testing.T, where string, requests []admissionv1.AdmissionRequest) {
	t.Helper()
	counts, alien := map[string]int{}, map[string]int{}
	for _, r := range requests {
		if sort := arrival(r); sort != "" {
			counts[sort]++
			continue
		}
		alien[describeArrival(r)]++
	}
	logCounts(t, fmt.Sprintf("%d requests arrived at %s", len(requests), where), counts)
	for what, n := range alien {
		t.Errorf("at %s, %d times: %s", where, n, what)
	}
	for _, want := range missingSorts(requests) {
		t.Errorf("at %s, there are no %s", where, want)
	}
}

func logCounts(t *testing.T, title string, counts map[string]int) {
	t.Helper()
	lines := []string{title}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, fmt.Sprintf("%6d %s", counts[what], what))
	}
	t.Log(strings.Join(lines, "\n"))
}

// auditFiles returns a policy that has every write logged, and the log.
func auditFiles(t *testing.T) (policy, trail string) {
	t.Helper()
	dir := t.TempDir()
	policy = filepath.Join(dir, "policy.yaml")
	const text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n" +
		"rules: [{level: None, verbs: [get, list, watch]}, {level: Metadata}]\n"
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return policy, filepath.Join(dir, "audit.log")
}

// busy are who must have written something, or the components did not do what
// this is about.
var busy = []string{
	fusegate.APIServer, asScheduler, asManager, controlplane.Kubelets, kubeSystem("replicaset-controller"), kubeSystem("deployment-controller"),
	kubeSystem("namespace-controller"), kubeSystem("generic-garbage-collector"), kubeSystem("pod-garbage-collector"), kubeSystem("node-controller"),
	kubeSystem("endpointslice-controller"), kubeSystem("service-account-controller"), kubeSystem("root-ca-cert-publisher"),
	kubeSystem("persistent-volume-binder"), kubeSystem("horizontal-pod-autoscaler"), kubeSystem("disruption-controller"),
	kubeSystem("clusterrole-aggregation-controller"), kubeSystem("resourcequota-controller"),
}

// checkWrites tells what all users wrote, by the audit log: what arrived at the
// webhook says something only beside it. A request that was sent to the webhook
// in vain is no better than one that arrived.
func checkWrites(t *testing.T, trail string) {
	t.Helper()
	counts := map[string]int{}
	total := 0
	for _, e := range writes(t, trail) {
		total++
		counts[e.User.Username]++
		if r := requestOf(e); failedOpen(e) && arrival(r) == "" {
			t.Errorf("sent to the webhook in vain: %s", describeArrival(r))
		}
	}
	logCounts(t, fmt.Sprintf("%d writes in all, by user", total), counts)
	for _, user := range missingWriters(t, trail) {
		t.Errorf("%s wrote nothing", user)
	}
}

// missingWriters are those of busy who have written nothing yet.
func missingWriters(t *testing.T, trail string) []string {
	t.Helper()
	wrote := map[string]bool{}
	for _, e := range writes(t, trail) {
		wrote[e.User.Username] = true
	}
	return slices.DeleteFunc(slices.Clone(busy), func(user string) bool { return wrote[user] })
}

// writes are those that are in an audit log.
func writes(t *testing.T, trail string) []auditv1.Event {
	t.Helper()
	file, err := os.Open(trail)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out []auditv1.Event
	for d := json.NewDecoder(file); ; {
		var e auditv1.Event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return out
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			return out // the last line is being written
		} else if err != nil {
			t.Fatal(err)
		}
		if e.ObjectRef != nil && e.Stage == auditv1.StageResponseComplete {
			out = append(out, e)
		}
	}
}

// failedOpen tells that a webhook was called and did not answer
// (k8s.io/apiserver pkg/admission/plugin/webhook/validating/dispatcher.go).
func failedOpen(e auditv1.Event) bool {
	for key := range e.Annotations {
		if strings.HasPrefix(key, "failed-open.validating.webhook.admission.k8s.io/") {
			return true
		}
	}
	return false
}

// requestOf is what an audited request would look like at the webhook.
func requestOf(e auditv1.Event) admissionv1.AdmissionRequest {
	operation, ok := map[string]admissionv1.Operation{"create": admissionv1.Create, "delete": admissionv1.Delete, "deletecollection": admissionv1.Delete}[e.Verb]
	if !ok {
		operation = admissionv1.Update
	}
	return admissionv1.AdmissionRequest{
		Operation: operation, UserInfo: e.User, SubResource: e.ObjectRef.Subresource, Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name,
		Resource: metav1.GroupVersionResource{Group: e.ObjectRef.APIGroup, Version: e.ObjectRef.APIVersion, Resource: e.ObjectRef.Resource},
	}
}
