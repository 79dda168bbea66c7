package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fusegate/fusegate/pkg/canary"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/controller"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/notify"
)

// addController adds what one process at a time does.
func (p *parts) addController() error {
	if !p.settings.Serves(config.RoleController) {
		return nil
	}
	stated := func() {} // is set below, before anything runs
	guard, err := p.newGuard(func() { stated() })
	if err != nil {
		return err
	}
	prober, err := canary.NewProber(p.apiServers(), func() string { return guard.State().Revision }, metrics.Registry, p.log.WithName("canary"))
	if err != nil {
		return err
	}
	prober.Timings = p.timings
	census := controller.NewCensus()
	census.Timings = p.timings
	if err := census.Watch(context.Background(), p.mgr.GetCache()); err != nil {
		return err
	}
	enforcement, err := controller.NewEnforcement(controller.EnforcementOptions{
		Client: p.mgr.GetClient(), Synced: p.ingest.Synced, Census: census, Webhook: path{guard, prober}, Ready: p.settled(guard),
		Recorder: p.mgr.GetEventRecorder("fusegate"), Metrics: metrics.Registry, Timings: p.timings, Log: p.log.WithName("enforcement"),
	})
	if err != nil {
		return err
	}
	stated = func() { prober.Look(); enforcement.Touch() }
	prober.Tell(enforcement.Touch)
	p.ingest.Tell(enforcement.Touch)
	c, live, ns := p.mgr.GetClient(), p.mgr.GetAPIReader(), p.settings.Namespace
	return errors.Join(
		controller.NewPublisher(p.engine, census, p.log.WithName("publisher")).SetupWithManager(p.mgr),
		p.mgr.Add(controller.NewJanitor(c, live, ns, census, p.log.WithName("janitor"))),
		p.mgr.Add(guard),
		p.mgr.Add(prober),
		p.mgr.Add(enforcement),
		p.addRotation(),
		p.addAudit(),
	)
}

func (p *parts) newGuard(stated func()) (*install.Guard, error) {
	touched, err := p.watchConfiguration()
	if err != nil {
		return nil, err
	}
	renamed, err := p.watchNamespaces()
	if err != nil {
		return nil, err
	}
	return install.NewGuard(install.GuardOptions{
		Client: p.mgr.GetClient(), Live: p.mgr.GetAPIReader(), Discovery: p.catalog, Config: p.settings.Config,
		Ready: p.readiness.Err, Subjects: p.engine.AdmissionScopes, Changed: p.ingest.Changed(), Touched: touched,
		Namespaces: p.namespaces, Renamed: renamed, Announce: p.announce(), Stated: stated, Timings: p.timings, Metrics: metrics.Registry, Log: p.log.WithName("guard"),
	})
}

// watchConfiguration returns what receives when the webhook configuration may
// have changed.
func (p *parts) watchConfiguration() (<-chan struct{}, error) {
	informer, err := p.mgr.GetCache().GetInformer(context.Background(), &admissionregistrationv1.ValidatingWebhookConfiguration{})
	if err != nil {
		return nil, fmt.Errorf("watching the webhook configuration: %w", err)
	}
	touched := notify.New()
	touch := func(any) { touched.Set() }
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: touch, UpdateFunc: func(_, o any) { touch(o) }, DeleteFunc: touch,
	})
	if err != nil {
		return nil, fmt.Errorf("watching the webhook configuration: %w", err)
	}
	return touched.C(), nil
}

// watchNamespaces returns how often names or labels of namespaces have changed.
func (p *parts) watchNamespaces() (changes func() uint64, err error) {
	informer, err := p.mgr.GetCache().GetInformer(context.Background(), &corev1.Namespace{})
	if err != nil {
		return nil, fmt.Errorf("watching namespaces: %w", err)
	}
	n := &atomic.Uint64{}
	changed := func(any) { n.Add(1) }
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: changed, DeleteFunc: changed, UpdateFunc: func(before, now any) {
			b, ok := before.(*corev1.Namespace)
			a, ok2 := now.(*corev1.Namespace)
			if !ok || !ok2 || !maps.Equal(b.Labels, a.Labels) {
				changed(now)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watching namespaces: %w", err)
	}
	return n.Load, nil
}

// announce emits Events about the webhook configuration.
func (p *parts) announce() func(bool, string, string) {
	recorder := p.mgr.GetEventRecorder("fusegate")
	about := &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta: metav1.TypeMeta{
			APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration",
		},
		ObjectMeta: metav1.ObjectMeta{Name: install.ConfigurationName},
	}
	return func(warning bool, reason, message string) {
		kind := corev1.EventTypeNormal
		if warning {
			kind = corev1.EventTypeWarning
		}
		recorder.Eventf(about, nil, kind, reason, "Guard", "%s", message)
	}
}

// namespaces lists the cluster's from the cache.
func (p *parts) namespaces(ctx context.Context) ([]intercept.Namespace, error) {
	list := &corev1.NamespaceList{}
	if err := p.mgr.GetClient().List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	out := make([]intercept.Namespace, len(list.Items))
	for i, n := range list.Items {
		out[i] = intercept.Namespace{Name: n.Name, Labels: n.Labels}
	}
	return out, nil
}

// apiServers are those that are named, else in a cluster those that have
// registered themselves, else the one that the kubeconfig names.
func (p *parts) apiServers() *canary.Cluster {
	live := p.mgr.GetAPIReader()
	if !p.settings.inPod() {
		live = nil
	}
	return canary.NewCluster(p.mgr.GetConfig(), live, p.settings.APIServers)
}

// settled tells why nothing can be said of constraints yet.
func (p *parts) settled(g *install.Guard) func() error {
	return func() error {
		if err := p.readiness.Err(); err != nil {
			return err
		}
		if s := g.State(); s.Pending {
			return errors.New(s.Message)
		}
		return nil
	}
}

// path is the way of a request to the webhook, as the leader sees it.
type path struct {
	guard  *install.Guard
	prober *canary.Prober
}

// Intercepted implements controller.Webhook.
func (p path) Intercepted(u *unstructured.Unstructured) (yes bool, reason, message string) {
	i := p.guard.State().Of(install.Identity{Kind: u.GetKind(), Name: u.GetName(), UID: u.GetUID(), Generation: u.GetGeneration()})
	return i.Intercepted, i.Reason, i.Message
}

// Proof implements controller.Webhook.
func (p path) Proof() (proven, pending bool, reason, message string) {
	out := p.prober.Proof(p.guard.State().Revision)
	return out.Proven, out.Pending, out.Reason, out.Message
}
