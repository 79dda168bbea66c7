package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/catalog"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/controller"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/gap"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/inventory"
	"github.com/fusegate/fusegate/pkg/printable"
	"github.com/fusegate/fusegate/pkg/servingcert"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/pkg/webhook"
)

// parts are what the pieces of a process share.
type parts struct {
	settings  settings
	timings   timing.Timings
	log       logr.Logger
	mgr       manager.Manager
	engine    *engine.Engine
	perimeter exempt.Perimeter
	readiness *controller.Readiness
	ingest    *controller.Ingest
	inventory *inventory.Inventory
	catalog   *catalog.Catalog
	gaps      *gap.Recorder
}

// newManager constructs everything that a process runs, in the order in which
// the pieces build on each other.
func newManager(s settings, t timing.Timings, c engine.Compiler, log logr.Logger) (manager.Manager, error) {
	t = t.Filled()
	perimeter, err := s.Perimeter()
	if err != nil {
		return nil, err
	}
	e, err := engine.New()
	if err != nil {
		return nil, err
	}
	e.CompileBy(c)
	mgr, err := bareManager(s, t, log)
	if err != nil {
		return nil, err
	}
	p := &parts{settings: s, timings: t, log: log, mgr: mgr, engine: e, perimeter: perimeter, readiness: controller.NewReadiness(), gaps: &gap.Recorder{}}
	for _, add := range []func() error{p.addIngest, p.addWebhook, p.addController, p.addHealth} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	return mgr, nil
}

func bareManager(s settings, t timing.Timings, log logr.Logger) (manager.Manager, error) {
	cfg, err := s.restConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	grace := t.Lull + t.Drain + 5*time.Second
	mgr, err := manager.New(cfg, manager.Options{
		Scheme:                        scheme,
		Logger:                        log,
		Cache:                         cacheOptions(s.Namespace),
		NewClient:                     newLimitedClient,
		Client:                        client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Metrics:                       metricsserver.Options{BindAddress: s.MetricsListen},
		HealthProbeBindAddress:        "0", // addHealth serves one that names what it waits for
		LeaderElection:                s.Serves(config.RoleController),
		LeaderElectionID:              "fusegate-controller",
		LeaderElectionNamespace:       s.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &t.LeaseDuration,
		RenewDeadline:                 &t.RenewDeadline,
		RetryPeriod:                   &t.RetryPeriod,
		GracefulShutdownTimeout:       &grace,
	})
	if err != nil {
		return nil, fmt.Errorf("creating the manager: %w", err)
	}
	return status.Recording(mgr), nil
}

// cacheOptions keep out of memory what nobody reads.
func cacheOptions(namespace string) cache.Options {
	return cache.Options{
		// The kinds of constraints come and go. Who reads one that is gone must not
		// have it followed again.
		ReaderFailOnMissingInformer: true,
		DefaultWatchErrorHandler:    watchFailed,
		DefaultTransform:            controller.Trim,
		ByObject: map[client.Object]cache.ByObject{
			&apiextensionsv1.CustomResourceDefinition{}: {
				Label:     labels.SelectorFromSet(labels.Set{v1alpha1.LabelConstraintCRD: "yes"}),
				Transform: stripDefinition,
			},
			&admissionregistrationv1.ValidatingWebhookConfiguration{}: {
				Field: fields.OneTermEqualSelector("metadata.name", install.ConfigurationName),
			},
			&coordinationv1.Lease{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Label:      labels.SelectorFromSet(labels.Set{v1alpha1.LabelPresence: "true"}),
			},
		},
	}
}

// watchFailed says why a kind cannot be followed for the moment. One that is not
// served is about to be forgotten, when the event of its CRD comes.
func watchFailed(ctx context.Context, r *toolscache.Reflector, err error) {
	if apierrors.IsNotFound(err) {
		klog.FromContext(ctx).V(1).Info("not served", "reflector", r.Name(), "reason", err.Error())
		return
	}
	toolscache.DefaultWatchErrorHandler(ctx, r, err)
}

// addIngest feeds the engine; every process does.
func (p *parts) addIngest() error {
	c := p.mgr.GetClient()
	writer, err := status.NewWriter(c, p.settings.PodName, p.settings.Roles)
	if err != nil {
		return fmt.Errorf("--pod-name: %w", err)
	}
	if err := metrics.Registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fusegate_interpreted_templates",
		Help: "Templates whose Rego could not be compiled to native code, so that OPA's interpreter judges by it.",
	}, func() float64 { return float64(len(p.engine.Interpreted())) })); err != nil {
		return err
	}
	observer, err := engine.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	p.engine.Observe(observer)
	p.ingest = controller.NewIngest(p.engine, writer, p.readiness, p.log.WithName("ingest"))
	if p.catalog, err = catalog.New(p.mgr.GetConfig()); err != nil {
		return err
	}
	if p.inventory, err = p.newInventory(); err != nil {
		return err
	}
	p.ingest.Reads(p.inventory)
	presence := controller.NewPresence(c, p.settings.Namespace, p.settings.PodName, p.log.WithName("presence"))
	survey := controller.NewSurvey(p.mgr.GetAPIReader(), p.readiness, p.log.WithName("survey"))
	presence.Says = p.gaps.Annotations
	presence.Timings, survey.Timings = p.timings, p.timings
	p.ingest.Pace(p.timings)
	return errors.Join(
		p.mgr.Add(p.inventory),
		p.mgr.Add(presence),
		p.mgr.Add(survey),
		p.ingest.SetupWithManager(p.mgr),
		p.mgr.Add(checker(p.check)),
	)
}

func (p *parts) addWebhook() error {
	if !p.settings.Serves(config.RoleWebhook) {
		return nil
	}
	host, port, err := config.SplitAddress(p.settings.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	// Namespaces are cached from the start, so that no review has to wait.
	if _, err := p.mgr.GetCache().GetInformer(context.Background(), &corev1.Namespace{}); err != nil {
		return fmt.Errorf("watching namespaces: %w", err)
	}
	var clients *webhook.Clients
	if len(p.settings.ClientCA) > 0 {
		if clients, err = webhook.NewClients(p.settings.ClientCA, p.settings.ClientNames); err != nil {
			return fmt.Errorf("clientCA: %w", err)
		}
	}
	log := p.log.WithName("webhook")
	parents, err := p.parents()
	if err != nil {
		return err
	}
	h, err := webhook.New(p.perimeter, p.engine, webhook.NewPolicyValidator(p.engine, p.perimeter),
		webhook.NewClusterNamespaces(p.mgr.GetCache(), p.mgr.GetAPIReader(), log),
		webhook.Options{
			Log: log, LogDenies: p.settings.LogDenies, Metrics: metrics.Registry, Faults: p.ingest, Ready: p.readiness.Err,
			Gaps: p.gaps, Clients: clients,
			Matcher: p.engine, Sizes: p.sizes(), Parents: parents,
		})
	if err != nil {
		return err
	}
	if err := metrics.Registry.Register(servingcert.NewExpiry(p.settings.CertDir)); err != nil {
		return err
	}
	server := newServer(host, port, p.settings.CertDir, &leaving{Handler: h, lull: p.timings.Lull}, log)
	server.askClients = clients != nil
	if err := metrics.Registry.Register(server.refused); err != nil {
		return err
	}
	return p.mgr.Add(server)
}

// sizes are those up to which the webhook judges objects.
func (p *parts) sizes() webhook.Sizes {
	s := p.settings
	return webhook.Sizes{Bytes: int64(s.MaxObjectBytes), Containers: int(s.MaxObjectContainers), Depth: int(s.MaxObjectDepth)}
}

// parents reads what requests change in the guise of another object. One read comes
// with one request, so that the API server's own limit on those is enough.
func (p *parts) parents() (*webhook.ClusterParents, error) {
	cfg := rest.CopyConfig(p.mgr.GetConfig())
	cfg.QPS = -1
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("creating the client for what requests change: %w", err)
	}
	return webhook.NewClusterParents(c), nil
}

// addHealth serves /healthz, which is 200 while the process runs, and /readyz,
// which names what it still waits for.
func (p *parts) addHealth() error {
	if p.settings.HealthListen == "0" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.inventory.Err(); err != nil {
			http.Error(w, "not ready: "+printable.Text(err.Error()), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	shutdown := p.timings.Drain
	return p.mgr.Add(&manager.Server{
		Name:            "health",
		Server:          &http.Server{Addr: p.settings.HealthListen, Handler: mux, ReadHeaderTimeout: 5 * time.Second},
		ShutdownTimeout: &shutdown,
	})
}
