package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/templates"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

const (
	agreementNamespace = "team-agree"
	// samplesEach and mutantsEach are how many objects a template is tried on,
	// and how many variations of each.
	samplesEach, mutantsEach = 4, 2
	denialPrefix             = `admission webhook "validation.fusegate.dev" denied the request: `
)

// agreement compares what the doors say of the same objects.
type agreement struct {
	*testCluster
	client      client.Client
	engine      *engine.Engine
	namespace   map[string]any
	constraints []*unstructured.Unstructured
	names       map[string]bool // of the constraints
	objects     []*unstructured.Unstructured
}

// TestAgreement: of the library's samples and variations of them, what audit
// finds once they exist, what the webhook denies and what the engine says are
// the same, message by message.
func TestAgreement(t *testing.T) {
	c := start(t)
	a := newAgreement(t, c)
	a.policies(t)
	// With no webhook there all of them get in.
	if err := c.Manager.End(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.write(t)
	c.Manager = fusegate.Serve(t, "agreement", "--kubeconfig", c.CP.Kubeconfig(controlplane.Admin), "--audit-limit", "500",
		"--listen", fmt.Sprintf("127.0.0.1:%d", c.Port), "--cert-dir", c.Dir)
	c.Manager.AwaitReady(t)
	want, answers := a.judged(t)
	for _, u := range a.constraints {
		c.AwaitCondition(t, strings.ToLower(u.GetKind())+"/"+u.GetName(), "True", "")
	}
	env.Await(t, "the audit to say what the engine says", func() error {
		if diff := gocmp.Diff(want, a.audited(t)); diff != "" {
			return fmt.Errorf("(-engine +audit):\n%s", diff)
		}
		return nil
	})
	if diff := gocmp.Diff(answers, a.denied(t)); diff != "" {
		t.Errorf("(-engine +webhook):\n%s", diff)
	}
	bad := map[string]bool{}
	for _, line := range want {
		bad[strings.SplitN(line, " ", 2)[0]] = true
	}
	t.Logf("%d objects, %d violations by %d of %d constraints", len(a.objects), len(want), len(bad), len(a.constraints))
	if len(a.objects) < 100 || len(bad) < 20 {
		t.Error("that is too little to compare")
	}
}

func newAgreement(t *testing.T, c *testCluster) *agreement {
	t.Helper()
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.CP.Config(controlplane.Admin)
	cfg.QPS, cfg.Burst, cfg.WarningHandler = 200, 400, rest.NoWarnings{}
	cl, err := client.New(cfg, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := &agreement{testCluster: c, client: cl, engine: e, names: map[string]bool{}}
	c.CreateNamespaces(t, agreementNamespace)
	env.AwaitObject(t, c.Client(t), env.Object("v1", "ServiceAccount", agreementNamespace, "default"), "the service account",
		func(*unstructured.Unstructured) error { return nil })
	u := env.Object("v1", "Namespace", "", agreementNamespace)
	if err := c.Client(t).Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
		t.Fatal(err)
	}
	u.SetManagedFields(nil)
	a.namespace = u.Object
	return a
}

// sample reads an object of the library.
func sample(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	text, err := templates.FS.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &u.Object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return u
}

// policies applies the library's templates but for those that refer to other
// objects, and a constraint of each.
func (a *agreement) policies(t *testing.T) {
	names, err := fs.Glob(templates.FS, "*/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var ready, texts []string
	for _, name := range names {
		template := sample(t, name)
		if template.GetAnnotations()["metadata.gatekeeper.sh/requires-sync-data"] != "" {
			continue
		}
		texts = append(texts, marshal(t, template))
		ready = append(ready, template.GetName())
		parsed, err := engine.ParseTemplate(template)
		if err == nil {
			err = a.engine.AddTemplate(t.Context(), parsed)
		}
		if err != nil {
			t.Fatal(err)
		}
		a.constraints = append(a.constraints, sample(t, strings.TrimSuffix(name, "/template.yaml")+"/samples/constraint.yaml"))
	}
	a.DropTemplates(t, ready...)
	a.Apply(t, strings.Join(texts, "---\n"))
	texts = nil
	for i, u := range a.constraints {
		u.SetName("agree-" + u.GetName())
		a.names[u.GetName()] = true
		err := unstructured.SetNestedStringSlice(u.Object, []string{agreementNamespace}, "spec", "match", "namespaces")
		if err == nil {
			err = unstructured.SetNestedField(u.Object, "deny", "spec", "enforcementAction")
		}
		if err == nil {
			err = a.engine.AddConstraint(t.Context(), u)
		}
		if err != nil {
			t.Fatal(err)
		}
		a.AwaitTemplate(t, ready[i])
		texts = append(texts, marshal(t, u))
	}
	a.Apply(t, strings.Join(texts, "---\n"))
}

func marshal(t *testing.T, u *unstructured.Unstructured) string {
	t.Helper()
	text, err := yaml.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// write creates samples and variations. What the API server itself refuses is
// left out.
func (a *agreement) write(t *testing.T) {
	disco, err := discovery.NewDiscoveryClientForConfig(a.CP.Config(controlplane.Admin))
	if err != nil {
		t.Fatal(err)
	}
	lists, err := disco.ServerPreferredNamespacedResources()
	if err != nil {
		t.Fatal(err)
	}
	namespaced := map[string]bool{}
	for _, l := range lists {
		for _, r := range l.APIResources {
			namespaced[l.GroupVersion+" "+r.Kind] = true
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range a.constraints {
		names, err := fs.Glob(templates.FS, strings.ToLower(c.GetKind())+"/samples/*.yaml")
		if err != nil {
			t.Fatal(err)
		}
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		taken := 0
		for _, name := range names {
			u := sample(t, name)
			if taken == samplesEach || !namespaced[u.GetAPIVersion()+" "+u.GetKind()] {
				continue
			}
			taken++
			for n := range 1 + mutantsEach {
				mutant := u.DeepCopy()
				for range n {
					mutate(random, mutant.Object)
				}
				a.writeOne(t, mutant)
			}
		}
	}
}

func (a *agreement) writeOne(t *testing.T, u *unstructured.Unstructured) {
	u.SetNamespace(agreementNamespace)
	u.SetName(fmt.Sprintf("agree-%03d", len(a.objects)))
	for _, field := range []string{"uid", "creationTimestamp", "generateName", "deletionTimestamp", "finalizers", "ownerReferences", "resourceVersion"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	if err := a.client.Create(t.Context(), u.DeepCopy()); err != nil {
		if status := apierrors.APIStatus(nil); !errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError {
			t.Fatal(err)
		}
		return
	}
	a.objects = append(a.objects, u)
}

// mutate changes something somewhere below spec, or below what there is instead.
func mutate(random *rand.Rand, object map[string]any) {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if key != "apiVersion" && key != "kind" && key != "status" {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return
	}
	key := keys[random.IntN(len(keys))]
	switch v := object[key].(type) {
	case map[string]any:
		mutate(random, v)
	case []any:
		if len(v) == 0 {
			return
		}
		if first, ok := v[random.IntN(len(v))].(map[string]any); ok && random.IntN(5) > 0 {
			mutate(random, first)
			return
		}
		object[key] = v[:len(v)-1]
	case bool:
		object[key] = !v
	case int64:
		object[key] = v + int64(random.IntN(3)) - 1
	case float64:
		object[key] = int64(v) + 1
	default:
		if random.IntN(2) == 0 {
			delete(object, key)
			return
		}
		object[key] = []string{"latest", "nginx:latest", "NET_ADMIN", "0"}[random.IntN(4)]
	}
}

func line(constraint string, u *unstructured.Unstructured, message string) string {
	return fmt.Sprintf("%s %s/%s: %s", constraint, u.GetKind(), u.GetName(), short(message))
}

// short cuts a message as the status does.
func short(message string) string {
	if len(message) <= 256 {
		return message
	}
	end := 253
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + "..."
}

func sortedLines(in []string) []string {
	slices.SortFunc(in, cmp.Compare[string])
	return in
}

// judged is what the engine says of the objects as they are stored, and what of it
// has room in an answer.
func (a *agreement) judged(t *testing.T) (out, answers []string) {
	for _, u := range a.objects {
		stored := u.DeepCopy()
		if err := a.client.Get(t.Context(), client.ObjectKeyFromObject(u), stored); err != nil {
			t.Fatal(err)
		}
		review := &policy.Review{
			Kind: u.GroupVersionKind(), Name: u.GetName(), Namespace: u.GetNamespace(), Object: stored.Object,
			NamespaceObject: policy.Namespace{Known: true, Object: a.namespace}, Point: policy.PointAudit,
		}
		result := a.engine.Review(t.Context(), review)
		review.Bounded = true
		answers = append(answers, a.lines(u, policy.Decide(a.engine.Review(t.Context(), review)).Message)...)
		for _, f := range result.Faults {
			t.Errorf("%s: %v", u.GetName(), f)
		}
		for _, v := range result.Violations {
			out = append(out, line(v.Constraint.Name, u, v.Message))
		}
	}
	return sortedLines(out), sortedLines(answers)
}

// audited is what the status of the constraints says of them.
func (a *agreement) audited(t *testing.T) (out []string) {
	for _, c := range a.constraints {
		u := c.DeepCopy()
		if err := a.client.Get(t.Context(), client.ObjectKeyFromObject(c), u); err != nil {
			t.Fatal(err)
		}
		list, _, _ := unstructured.NestedSlice(u.Object, "status", "violations")
		for _, item := range list {
			v, _ := item.(map[string]any)
			of := &unstructured.Unstructured{Object: map[string]any{"kind": v["kind"], "metadata": map[string]any{"name": v["name"]}}}
			if message, _ := v["message"].(string); strings.HasPrefix(of.GetName(), "agree-") && len(of.GetName()) == len("agree-000") {
				out = append(out, line(c.GetName(), of, message))
			}
		}
	}
	return sortedLines(out)
}

// denied is what the webhook says of them when they are created once more.
func (a *agreement) denied(t *testing.T) (out []string) {
	for _, u := range a.objects {
		err := a.client.Create(t.Context(), u.DeepCopy(), client.DryRunAll)
		_, text, found := strings.Cut(fmt.Sprint(err), denialPrefix)
		if !found {
			if !apierrors.IsAlreadyExists(err) {
				t.Errorf("creating %s again: got %v, want a denial or that it exists", u.GetName(), err)
			}
			continue
		}
		out = append(out, a.lines(u, text)...)
	}
	return sortedLines(out)
}

// lines takes a denial apart.
func (a *agreement) lines(u *unstructured.Unstructured, text string) (out []string) {
	if text == "" {
		return nil
	}
	var said [][2]string
	for l := range strings.SplitSeq(text, "\n") {
		name, message, ok := strings.Cut(strings.TrimPrefix(l, "["), "] ")
		if ok && a.names[name] {
			said = append(said, [2]string{name, message})
			continue
		}
		said[len(said)-1][1] += "\n" + l
	}
	for _, s := range said {
		out = append(out, line(s[0], u, s[1]))
	}
	return out
}
