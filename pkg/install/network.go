package install

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/timing"
)

// The ports of the webhook's pods: the webhook's own, and those that stay open.
const (
	webhookPort = 9443
	metricsPort = 8080
	healthPort  = 8081
)

// networkPolicy keeps all from the webhook's port but Config.WebhookSources and the
// controller, which asks the webhook before it arms it. Metrics and health stay open.
// It is nil without sources.
func (c renderer) networkPolicy() (*unstructured.Unstructured, error) {
	if len(c.WebhookSources) == 0 {
		return nil, nil
	}
	pods := func(component string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: product, componentLabel: component}}
	}
	port := func(n int32) networkingv1.NetworkPolicyPort {
		return networkingv1.NetworkPolicyPort{Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(intstr.FromInt32(n))}
	}
	from := []networkingv1.NetworkPolicyPeer{{PodSelector: ptr.To(pods("controller"))}}
	for _, cidr := range c.WebhookSources {
		from = append(from, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}})
	}
	out, err := object(&networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: networkKind},
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: NetworkPolicyName, Labels: map[string]string{componentLabel: "webhook"}},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: pods("webhook"),
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{From: from, Ports: []networkingv1.NetworkPolicyPort{port(webhookPort)}},
				{Ports: []networkingv1.NetworkPolicyPort{port(metricsPort), port(healthPort)}},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	label(out)
	return out, nil
}

func networkRef(namespace string) Ref {
	return Ref{GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind(networkKind), Namespace: namespace, Name: NetworkPolicyName}
}

// unrestrict removes the NetworkPolicy of an earlier run if the plan has another or
// none: what shuts an API server out must not stand in the way of its own correction.
// In a dry run it says what Restrict would do.
func (a *applier) unrestrict(ctx context.Context) error {
	want, ref := a.plan.NetworkPolicy, networkRef(a.plan.Config.Namespace)
	if want != nil && a.options.DryRun {
		return a.apply(ctx, want)
	}
	if want != nil {
		live, err := get(ctx, a.client, ref)
		if err != nil || live == nil || equality.Semantic.DeepEqual(live.Object["spec"], want.Object["spec"]) {
			return err
		}
	}
	return a.lift(ctx, ref)
}

// lift removes the NetworkPolicy if it is there and Fusegate's.
func (a *applier) lift(ctx context.Context, ref Ref) error {
	r := &remover{client: a.client, options: RemoveOptions{DryRun: a.options.DryRun, Progress: a.options.Progress}}
	err := r.remove(ctx, ref)
	a.changes = append(a.changes, r.changes...)
	return err
}

const (
	// restrictPause is between two rounds of questions. Each is answered over a new
	// connection, by any of the webhook's pods, so that all of them are asked.
	restrictPause = 500 * time.Millisecond
	// restrictSlow is how long a round takes that tells by itself that packets are
	// dropped; of others it takes two in a row, since one lost packet is no outage.
	restrictSlow = time.Second
)

// RestrictOptions of Plan.Restrict. Answered is required.
type RestrictOptions struct {
	// Answered asks every API server once whether the webhook answers it over a new
	// connection, and names those that it does not, or that could not be asked.
	Answered func(context.Context) error
	// Timeout is how long all may take to be answered before the NetworkPolicy is
	// applied; zero means DefaultWaitTimeout. Watch is how long they are asked
	// afterwards; zero means what pkg/timing has for production.
	Timeout, Watch time.Duration
	// Apply has the Force, FieldManager and Progress to apply with; the rest of it does
	// not count.
	Apply ApplyOptions
	// Waiting receives a line about what is waited for; it may be nil.
	Waiting func(string)
}

// Restrict applies the plan's NetworkPolicy, if it has one, as the last thing: after
// Wait, and once every API server is answered. It asks them on for Watch. Whatever
// goes wrong, or if ctx ends, the NetworkPolicy does not stay, and neither does that
// of an earlier run: packets that are dropped cost every write the timeout.
func (p Plan) Restrict(ctx context.Context, c client.Client, o RestrictOptions) ([]Change, error) {
	if p.NetworkPolicy == nil {
		return nil, nil
	}
	o.Timeout, o.Watch = cmp.Or(o.Timeout, DefaultWaitTimeout), cmp.Or(o.Watch, timing.Production().Restrict)
	o.Apply.FieldManager = cmp.Or(o.Apply.FieldManager, FieldManager)
	if o.Waiting == nil {
		o.Waiting = func(string) {}
	}
	a := &applier{client: c, options: o.Apply, plan: p}
	ref := refOf(p.NetworkPolicy)
	err := a.restrict(ctx, o)
	if err == nil {
		return a.changes, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	if back := a.lift(ctx, ref); back != nil {
		return a.changes, fmt.Errorf("%s may shut API servers out and could not be taken back (%w): remove it by hand, kubectl -n %s delete networkpolicy %s; it was to be taken back because of this: %w",
			ref, back, ref.Namespace, ref.Name, err)
	}
	return a.changes, fmt.Errorf("%s is not in force, so that any pod can reach the webhook's port: %w. "+
		"webhookSources must hold the addresses that API servers' connections arrive from at the pods, which are those of a node or a proxy where they are translated", ref, err)
}

func (a *applier) restrict(ctx context.Context, o RestrictOptions) error {
	o.Waiting("API servers: each must be answered before the NetworkPolicy is applied")
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	var last error
	err := poll(limited, waitFirst, waitLast, func(ctx context.Context) (bool, error) {
		err := o.Answered(ctx)
		if ctx.Err() != nil {
			return false, nil // what was seen last is better than that time is up
		}
		last = err
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for every API server to be answered without it: %w", cmp.Or(last, err))
	}
	if err := a.apply(ctx, a.plan.NetworkPolicy); err != nil {
		return err
	}
	o.Waiting(fmt.Sprintf("API servers: asked for %v whether the NetworkPolicy lets them in", o.Watch))
	return watchAnswers(ctx, o)
}

// watchAnswers asks until the webhook has answered for Watch, or does not.
func watchAnswers(ctx context.Context, o RestrictOptions) error {
	end := time.Now().Add(o.Watch)
	tick := time.NewTicker(restrictPause)
	defer tick.Stop()
	for failed := false; ; {
		start := time.Now()
		err := o.Answered(ctx)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("it was taken back, since watching it was interrupted: %w", ctx.Err())
		case err != nil && (failed || time.Since(start) >= restrictSlow):
			return fmt.Errorf("it was taken back: with it, %w", err)
		case err == nil && start.After(end):
			return nil
		}
		failed = err != nil
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
