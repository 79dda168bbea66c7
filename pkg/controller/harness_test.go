package controller

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	coordinationv1 "k8s.io/api/coordination/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/manifests"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/pkg/timing"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// patience bounds every wait for a condition.
const patience = 30 * time.Second

// presences is where the processes under test keep their Leases.
const presences = "default"

var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(apiextensionsv1.AddToScheme(s))
	return s
}()

// shared is the control plane of all tests. Its controller manager is left out,
// and with it garbage collection.
var shared = env.Shared{Prepare: createTemplatesCRD}

// await returns once try returns nil, and poll does or when ctx ends.
var await, poll = env.Await, env.Poll

func TestMain(m *testing.M) { os.Exit(env.Run(m, &shared)) }

func createTemplatesCRD(ctx context.Context, cp *controlplane.ControlPlane) error {
	c, err := client.New(cp.Config(controlplane.Admin), client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	data, err := manifests.FS.ReadFile("crds/constrainttemplates.yaml")
	if err != nil {
		return err
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(data, crd); err != nil {
		return err
	}
	if err := c.Create(ctx, crd); err != nil {
		return err
	}
	return poll(ctx, func() error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(crd), crd); err != nil {
			return err
		}
		if !served(crd, "ConstraintTemplate") {
			return fmt.Errorf("CRD %s is not established", crd.Name)
		}
		return nil
	})
}

// admin returns the configuration and a client of an administrator.
func admin(t *testing.T) (*rest.Config, client.Client) {
	t.Helper()
	cfg := shared.Get(t).Config(controlplane.Admin)
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return cfg, c
}

// process is a manager that runs in this process as a pod of Fusegate would.
type process struct {
	pod       string
	engine    *engine.Engine
	readiness *Readiness
	ingest    *Ingest
	publisher *Publisher
	writes    atomic.Int64 // PATCH requests
	cut       atomic.Int64 // errors logged because of the end
	stop      func()
}

// processOptions vary a process; the zero value is the leader.
type processOptions struct {
	follower bool
	// wrap, if set, stands between the process and its status.
	wrap func(client.Client) client.Client
	// hold has the API server answer no PATCH request but those about Leases.
	hold bool
	// census, if set, counts for the publisher.
	census *Census
}

// soon are the timings of processes under test. How long one is believed to live is
// as in production: it is the census's.
var soon = timing.Timings{PresenceRenew: time.Second, Survey: 200 * time.Millisecond, FaultDelay: time.Second}

// run starts a process, which ends with the test at the latest.
func run(t *testing.T, pod string, o processOptions) *process {
	t.Helper()
	p := &process{pod: pod, readiness: NewReadiness()}
	mgr := p.manager(t, o)
	c := mgr.GetClient()
	if o.wrap != nil {
		c = o.wrap(c)
	}
	writer, err := status.NewWriter(c, pod, []string{"webhook"})
	if err != nil {
		t.Fatal(err)
	}
	if p.engine, err = engine.New(); err != nil {
		t.Fatal(err)
	}
	log := mgr.GetLogger()
	p.ingest = NewIngest(p.engine, writer, p.readiness, log.WithName("ingest"))
	census := cmp.Or(o.census, NewCensus())
	p.publisher = NewPublisher(p.engine, census, log.WithName("publisher"))
	presence := NewPresence(mgr.GetClient(), presences, pod, log.WithName("presence"))
	survey := NewSurvey(mgr.GetAPIReader(), p.readiness, log.WithName("survey"))
	presence.Timings, survey.Timings = soon, soon
	p.ingest.Pace(soon)
	pieces := []error{
		mgr.Add(presence),
		mgr.Add(survey),
		p.ingest.SetupWithManager(mgr),
		census.Watch(t.Context(), mgr.GetCache()),
	}
	if !o.follower {
		pieces = append(pieces, p.publisher.SetupWithManager(mgr))
	}
	for _, err := range pieces {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.start(t, mgr)
	return p
}

func (p *process) manager(t *testing.T, o processOptions) manager.Manager {
	t.Helper()
	cfg, _ := admin(t)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPatch && !strings.Contains(r.URL.Path, "/leases/") {
				p.writes.Add(1)
				if o.hold {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
			}
			return next.RoundTrip(r)
		})
	})
	mgr, err := manager.New(cfg, manager.Options{
		Scheme:     scheme,
		Logger:     p.logger(),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Client:     client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Cache: cache.Options{
			ReaderFailOnMissingInformer: true,
			DefaultTransform:            Trim,
			ByObject: map[client.Object]cache.ByObject{
				&apiextensionsv1.CustomResourceDefinition{}: {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelConstraintCRD: "yes"})},
				&coordinationv1.Lease{}: {
					Namespaces: map[string]cache.Config{presences: {}},
					Label:      labels.SelectorFromSet(labels.Set{v1alpha1.LabelPresence: "true"}),
				},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// logger counts errors of ours that tell of nothing but the end of the process.
// What controller-runtime says of a reconciler that was cut off is not ours, nor
// what client-go says of an Event or of an answer that was cut off.
func (p *process) logger() logr.Logger {
	return funcr.New(func(_, line string) {
		library := strings.Contains(line, `"msg"="Reconciler error"`) || strings.Contains(line, `"msg"="Unable to write event`) ||
			strings.Contains(line, `"msg"="Unexpected error when reading response body"`)
		if !library && !strings.Contains(line, `"level"=`) && strings.Contains(line, context.Canceled.Error()) {
			p.cut.Add(1)
			fmt.Fprintln(os.Stderr, line)
		}
	}, funcr.Options{})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (p *process) start(t *testing.T, mgr manager.Manager) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("process %s: %v", p.pod, err)
		}
		if n := p.cut.Load(); n > 0 {
			t.Errorf("process %s: %d errors logged since it was told to stop", p.pod, n)
		}
	})
	t.Cleanup(p.stop)
}

func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	await(t, "process "+p.pod+" to be ready", p.readiness.Err)
}

// says is what the policies say of a ConfigMap, as kind/name: message.
func (p *process) says(t *testing.T) []string {
	t.Helper()
	result := p.engine.Review(t.Context(), &policy.Review{
		Kind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Name: "x", Namespace: "x", Operation: policy.Create,
		Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "x", "namespace": "x"}},
		Point:  policy.PointWebhook,
	})
	var out []string
	for _, v := range result.Violations {
		out = append(out, v.Constraint.String()+": "+v.Message)
	}
	return out
}

// awaitSays waits until what the process says of a ConfigMap because of
// constraints of kind, in any case, is want.
func (p *process) awaitSays(t *testing.T, kind string, want ...string) {
	t.Helper()
	await(t, fmt.Sprintf("%s to say %q", p.pod, want), func() error {
		var got []string
		for _, line := range p.says(t) {
			if name, rest, _ := strings.Cut(line, "/"); strings.EqualFold(name, kind) {
				got = append(got, rest)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
}

// template is a template whose constraints always object with word and the
// parameter text, which is of the given type.
func template(kind, word, typ string) *unstructured.Unstructured {
	return parse(fmt.Sprintf(`
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd:
    spec:
      names: {kind: %s}
      validation:
        openAPIV3Schema:
          type: object
          properties: {text: {type: %s}, more: {type: %s}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package p
      violation[{"msg": msg}] { msg := sprintf("%s %%v", [input.parameters.text]) }
`, strings.ToLower(kind), kind, typ, typ, word))
}

func constraint(kind, name, text string) *unstructured.Unstructured {
	return parse(fmt.Sprintf(`
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: %s
metadata: {name: %s}
spec:
  parameters: {text: %q, more: %q}
`, kind, name, text, text))
}

func parse(text string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		panic(err)
	}
	return u
}

func apply(t *testing.T, c client.Client, u *unstructured.Unstructured) {
	t.Helper()
	await(t, "applying "+u.GetName(), func() error {
		return c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u.DeepCopy()), client.FieldOwner("test"), client.ForceOwnership)
	})
}

// removeTemplate deletes the template of kind at the end of the test, and its CRD,
// which goes when all its constraints have: nobody waits for that.
func removeTemplate(t *testing.T, c client.Client, kind string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, gvk := range []schema.GroupVersionKind{templateGVK(), apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition")} {
			u := newObject(gvk)
			u.SetName(strings.ToLower(kind))
			if gvk.Group != engine.TemplateGroup {
				u.SetName(crdName(u.GetName()))
			}
			err := poll(ctx, func() error {
				if err := client.IgnoreNotFound(c.Delete(ctx, u)); err != nil {
					return err
				}
				left := u.DeepCopy()
				err := c.Get(ctx, client.ObjectKeyFromObject(u), left)
				if client.IgnoreNotFound(err) != nil || err == nil && (left.GetDeletionTimestamp() == nil || gvk.Group == engine.TemplateGroup) {
					return fmt.Errorf("%s is still there: %w", u.GetName(), err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// get reads a template (kind empty) or a constraint.
func get(t *testing.T, c client.Client, k key) *unstructured.Unstructured {
	t.Helper()
	gvk := templateGVK()
	if k.kind != "" {
		gvk = constraintGVK(k.kind)
	}
	u := newObject(gvk)
	if err := c.Get(t.Context(), client.ObjectKey{Name: k.name}, u); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return u
}

// entryErrors are the messages that pod has recorded for k, joined; ok is false
// while it has recorded none of the object's current generation.
func entryErrors(t *testing.T, c client.Client, k key, pod string) (messages string, ok bool) {
	t.Helper()
	u := get(t, c, k)
	entry := status.Entries(u)[pod]
	if g, _ := entry["observedGeneration"].(int64); g != u.GetGeneration() {
		return "", false
	}
	errs, _ := entry["errors"].([]any)
	for _, e := range errs {
		messages += fmt.Sprint(e.(map[string]any)["message"])
	}
	return messages, true
}

func awaitEntry(t *testing.T, c client.Client, k key, pod, want string) {
	t.Helper()
	await(t, fmt.Sprintf("%s to record %q of %s", pod, want, k), func() error {
		got, ok := entryErrors(t, c, k, pod)
		if !ok || (want == "") != (got == "") || !strings.Contains(got, want) {
			return fmt.Errorf("got %q (current: %t)", got, ok)
		}
		return nil
	})
}
