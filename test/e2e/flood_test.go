package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// floodFor is how long TestFloodOfOneTenant goes on at least.
var floodFor = flag.Duration("flood", 0, "how long the flood of one tenant lasts at least; from 10s on, the 99th percentile of what others wait is checked")

// floodTemplate wants a label, and compares all containers with all others first, twice.
func floodTemplate() string {
	return strings.Replace(fusegate.LabelTemplate("FloodLabels", "missing"), "      violation[", `      twin { some i, j, k; c := input.review.object.spec.containers; c[i].image == c[j].image; c[j].image == c[k].name }
      violation[{"msg": "a twin"}] { twin }
      violation[`, 1)
}

// manyContainers is the spec of a Pod that takes some time to judge.
func manyContainers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{name: c%d, image: registry.example.com/pause}, ", i)
	}
	return "spec: {containers: [" + b.String() + "]}"
}

// TestFloodOfOneTenant has one tenant flood through five Deployments and directly. None
// of what is written directly gets in, what the webhook could not judge of the
// Deployments' Pods is listed, and another tenant notices nothing: its Deployment has
// its Pod, and its forbidden Pod is denied.
func TestFloodOfOneTenant(t *testing.T) {
	c := alone(t)
	c.CreateNamespaces(t, "flood", "calm")
	c.Apply(t, floodTemplate())
	c.AwaitTemplate(t, "floodlabels")
	c.Apply(t, fusegate.Constraint("FloodLabels", "flood", "deny", "owner", `{kinds: [{apiGroups: [""], kinds: [Pod]}], namespaces: [flood, calm]}`))
	c.AwaitEnforced(t, "floodlabels/flood")
	t.Cleanup(func() {
		// Without the test's context, which has ended.
		for _, args := range [][]string{{"delete", "namespace", "flood", "calm", "--wait=false"}, {"delete", "constrainttemplate", "floodlabels"}} {
			if _, stderr, ok := c.Kubectl(t, controlplane.Admin, "", args...); !ok {
				t.Error(stderr)
			}
		}
	})

	heavy := manyContainers(150)
	for i := range 5 {
		c.CreateAll(t, deployment("flood", fmt.Sprintf("d%d", i), 30, "tier: web", heavy))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var denied, limited, unclear atomic.Int64
	cl := c.Client(t)
	for i := range 16 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				pod := env.Parse(t, fusegate.Object("v1", "Pod", "flood", fmt.Sprintf("direct-%d-%d", i, n), heavy))
				switch err := cl.Create(ctx, pod); {
				case ctx.Err() != nil:
				case err == nil:
					t.Errorf("forbidden Pod %s was stored", pod.GetName())
				case apierrors.IsTooManyRequests(err):
					limited.Add(1)
					if seconds, suggested := apierrors.SuggestsClientDelay(err); suggested {
						t.Errorf("the denial has clients try again after %d s by themselves", seconds)
					}
				case apierrors.IsForbidden(err):
					denied.Add(1)
				default:
					unclear.Add(1)
					t.Logf("an answer that is none of ours: %v", err)
				}
			}
		})
	}
	env.Await(t, "the flood to be denied", func() error {
		if denied.Load() < 20 || limited.Load() < 10 {
			return fmt.Errorf("%d were denied, %d for the load", denied.Load(), limited.Load())
		}
		return nil
	})

	begun := time.Now()
	c.CreateAll(t, deployment("calm", "honest", 1, "owner: me", fusegate.Pause))
	env.Await(t, "the Pod of an honest Deployment", func() error {
		pods := &unstructured.UnstructuredList{}
		pods.SetAPIVersion("v1")
		pods.SetKind("PodList")
		if err := cl.List(t.Context(), pods, client.InNamespace("calm")); err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the Pod of an honest Deployment came after %s, want 5 s at most", took)
	}
	var waits []time.Duration
	for i := 0; i < 10 || time.Since(begun) < *floodFor; i++ {
		sent := time.Now()
		err := cl.Create(t.Context(), env.Parse(t, fusegate.Object("v1", "Pod", "calm", fmt.Sprintf("bad-%d", i), fusegate.Pause)))
		waits = append(waits, time.Since(sent))
		if err == nil || !strings.Contains(err.Error(), "[flood] missing label owner") {
			t.Errorf("a forbidden Pod of the honest tenant: got %v, want its denial", err)
		}
	}
	slices.Sort(waits)
	p99 := waits[(len(waits)-1)*99/100]
	t.Logf("%d honest requests took %v at the median and %v at the 99th percentile, API server and all", len(waits), waits[len(waits)/2], p99)
	if *floodFor >= 10*time.Second && p99 > time.Second {
		t.Errorf("the 99th percentile is %v, want 1 s at most", p99)
	}
	cancel()
	writers.Wait()
	t.Logf("the flood: %d denied, %d for its load, %d other answers", denied.Load(), limited.Load(), unclear.Load())
	c.awaitListed(t, "flood")
}

func deployment(namespace, name string, replicas int, labels, spec string) string {
	return fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: %s}\n"+
		"spec: {replicas: %d, selector: {matchLabels: {app: %s}}, template: {metadata: {labels: {app: %s, %s}}, %s}}\n", name, namespace, replicas, name, name, labels, spec)
}

// awaitListed waits until every Pod of a namespace that is forbidden and there all the
// same is listed as unjudged, with what it violates.
func (c *testCluster) awaitListed(t *testing.T, namespace string) {
	t.Helper()
	pods := &unstructured.UnstructuredList{}
	pods.SetAPIVersion("v1")
	pods.SetKind("PodList")
	if err := c.Client(t).List(t.Context(), pods, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d Pods passed through Deployments", len(pods.Items))
	c.Await(t, "ar/cluster", "what passed to be listed", func(u *unstructured.Unstructured) error {
		listed := map[string]v1alpha1.UnjudgedObject{}
		for _, x := range unjudged(t, u) {
			listed[x.UID] = x
		}
		for _, p := range pods.Items {
			if x := listed[string(p.GetUID())]; x.Name != p.GetName() || strings.Join(x.Violates, " ") != "FloodLabels/flood" {
				return fmt.Errorf("Pod %s, which is forbidden, is listed as %+v among %d", p.GetName(), x, len(listed))
			}
		}
		return nil
	})
}

func unjudged(t *testing.T, report *unstructured.Unstructured) []v1alpha1.UnjudgedObject {
	t.Helper()
	if report == nil {
		return nil
	}
	text, err := json.Marshal(report.Object["status"])
	var status v1alpha1.AuditReportStatus
	if err == nil {
		err = json.Unmarshal(text, &status)
	}
	if err != nil {
		t.Fatal(err)
	}
	return status.Unjudged
}
