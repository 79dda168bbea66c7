package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/controlplane"
)

const (
	onPods        = 40 // constraints that match Pods
	creators      = 16
	serverRounds  = 5
	serverBudget  = 3 * time.Second
	benchSpace    = "team-a"
	judgedLabel   = "bench.fusegate.dev/judged"
	serverTimeout = 2 * time.Minute
)

// throughServer measures how many Pods a second an API server creates, in turns
// with 40 constraints on them and with no webhook: Pods with a label are sent to
// the webhook, those without are not. All runs on this machine.
func throughServer(ctx context.Context) (err error) {
	plane, err := controlplane.Start(ctx, controlplane.Options{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	cfg := plane.Config(controlplane.Admin)
	cfg.QPS, cfg.WarningHandler = -1, rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	server, err := policed(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	if err := prepare(ctx, client, server); err != nil {
		return err
	}
	for _, dry := range []bool{true, false} {
		if err := compareRates(ctx, client, dry); err != nil {
			return err
		}
	}
	return nil
}

// policed is the webhook with the library's policies, of which onPods
// constraints match Pods.
func policed(ctx context.Context) (*httptest.Server, error) {
	l, err := loadLibrary()
	if err != nil {
		return nil, err
	}
	l.constraints = onPodsOnly(l.constraints)
	o, err := newOurs(ctx, l, engine.New)
	if err != nil {
		return nil, err
	}
	h, err := webhook.New(exempt.Perimeter{}, o.Engine, webhook.NewPolicyValidator(o.Engine, exempt.Perimeter{}), namespaces{}, webhook.Options{})
	if err != nil {
		return nil, err
	}
	return httptest.NewTLSServer(h), nil
}

// onPodsOnly returns onPods constraints that match Pods, the later ones the
// first under other names.
func onPodsOnly(all []*unstructured.Unstructured) (out []*unstructured.Unstructured) {
	for i := 0; len(out) < onPods; i++ {
		c := all[i%len(all)].DeepCopy()
		kinds, _, _ := unstructured.NestedSlice(c.Object, "spec", "match", "kinds")
		if len(kinds) > 0 && !strings.Contains(fmt.Sprint(kinds), "Pod ") && !strings.Contains(fmt.Sprint(kinds), "Pod]") {
			continue
		}
		if n := i / len(all); n > 0 {
			c.SetName(fmt.Sprintf("%s-%d", c.GetName(), n))
		}
		out = append(out, c)
	}
	return out
}

// prepare makes the namespace and has Pods with the label sent to the webhook.
func prepare(ctx context.Context, client kubernetes.Interface, server *httptest.Server) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: benchSpace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the namespace: %w", err)
	}
	if _, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, configuration(server), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the webhook configuration: %w", err)
	}
	denied := benchPod("bad", true)
	denied.Spec.Containers[0].Image = "evil.example.com/app:latest"
	// A Pod cannot be made before its service account, nor is it denied before
	// the API server has learned of the webhook.
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, serverTimeout, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().Pods(benchSpace).Create(ctx, denied, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "denied the request"), nil
	})
}

func configuration(server *httptest.Server) *admissionregistrationv1.ValidatingWebhookConfiguration {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "bench"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:                    "bench.fusegate.dev",
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: ptr.To(server.URL + webhook.Path), CABundle: ca},
			AdmissionReviewVersions: []string{"v1"},
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			FailurePolicy:           ptr.To(admissionregistrationv1.Fail), // a Pod that was not judged must not count
			ObjectSelector:          &metav1.LabelSelector{MatchLabels: map[string]string{judgedLabel: "yes"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
}

// benchPod keeps the rules of the library's samples.
func benchPod(name string, judged bool) *corev1.Pod {
	fields := pod(3, "registry.example.com/app:1.2@sha256:"+strings.Repeat("0123456789abcdef", 4))
	fields["spec"].(map[string]any)["securityContext"] = map[string]any{"seccompProfile": map[string]any{"type": "RuntimeDefault"}}
	out := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(jsonOf(fields), out); err != nil {
		panic(err) // it is a Pod
	}
	out.Name, out.GenerateName = name, ""
	if judged {
		out.Labels = maps.Clone(out.Labels)
		out.Labels[judgedLabel] = "yes"
	}
	return out
}

// jsonOf is an object as it is decoded.
func jsonOf(fields map[string]any) map[string]any {
	return decodeKubernetes(encode(fields)).(map[string]any)
}

// compareRates prints how many Pods a second are created, judged and not.
func compareRates(ctx context.Context, client kubernetes.Interface, dry bool) error {
	rates := map[bool][]time.Duration{}
	for round := range serverRounds {
		for _, judged := range []bool{false, true} {
			each, err := createPods(ctx, client, dry, judged, round)
			if err != nil {
				return err
			}
			rates[judged] = append(rates[judged], each)
		}
	}
	without, with := percentile(rates[false], 50), percentile(rates[true], 50)
	how := "created"
	if dry {
		how = "created in dry runs"
	}
	fmt.Printf("Pods %s through an API server, %d clients, medians of %d rounds in turns: %.0f/s without webhook, %.0f/s with %d constraints\n",
		how, creators, serverRounds, 1/without.Seconds(), 1/with.Seconds(), onPods)
	fmt.Printf("share of the rate that is left: %.0f %%\n", 100*ratio(without, with))
	return nil
}

// createPods has Pods created for a while and returns the time that each took,
// of all clients together.
func createPods(ctx context.Context, client kubernetes.Interface, dry, judged bool, round int) (time.Duration, error) {
	options := metav1.CreateOptions{}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	made := 0
	start := time.Now()
	for worker := range creators {
		group.Go(func() {
			n := 0
			var err error
			for ; err == nil && time.Since(start) < serverBudget; n++ {
				name := fmt.Sprintf("web-%t-%d-%d-%d", judged, round, worker, n)
				_, err = client.CoreV1().Pods(benchSpace).Create(ctx, benchPod(name, judged), options)
			}
			mu.Lock()
			defer mu.Unlock()
			made, failed = made+n, errors.Join(failed, err)
		})
	}
	group.Wait()
	return time.Since(start) / time.Duration(max(made, 1)), failed
}
