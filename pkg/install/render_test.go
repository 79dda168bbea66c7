package install_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// scheme knows every kind that is installed.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(apiextensionsv1.AddToScheme(s))
	return s
}()

// fixedCA is a certificate that does not change, for golden files.
func fixedCA(t testing.TB) []byte {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join("testdata", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func render(t testing.TB, c config.Config) install.Plan {
	t.Helper()
	plan, err := install.Render(c)
	if err != nil {
		t.Fatalf("Render: %v", err)
	}
	return plan
}

// configs are those that the tests below go over.
func configs(t testing.TB) map[string]config.Config {
	return map[string]config.Config{
		"install.yaml":     {Image: image},
		"webhook-url.yaml": {WebhookURL: "https://192.0.2.1:9443", CABundle: fixedCA(t), TimeoutSeconds: 1},
		"options.yaml": {
			Namespace: "policy", Image: image, TimeoutSeconds: 2, WebhookSources: []string{"192.0.2.0/28", "2001:db8::/64"}, WebhookReplicas: 5, ControllerReplicas: 1,
			Exempt: exempt.Options{
				Namespaces: []string{"calico-system", "*-operators"}, Users: []string{"jane"}, Groups: []string{"sre"},
				ServiceAccounts: []string{"flux-system/helm-controller"}, Controllers: []string{"cloud:manager"}, Provider: "eks",
				KubeSystemAccounts: exempt.ControllerManagerOnly, OwnServiceAccounts: []string{"fusegate-extra"},
			},
		},
	}
}

func TestGolden(t *testing.T) {
	for name, c := range configs(t) {
		t.Run(name, func(t *testing.T) {
			got, err := render(t, c).YAML()
			if err != nil {
				t.Fatalf("YAML: %v", err)
			}
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s differs; if it should, run go test ./pkg/install -update (-want +got):\n%s", path, diff)
			}
		})
	}
}

// TestStrictDecoding checks that every field is one that the API has.
func TestStrictDecoding(t *testing.T) {
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Strict: true})
	for name, c := range configs(t) {
		for _, u := range render(t, c).Objects {
			text, err := u.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := strict.Decode(text, nil, nil); err != nil {
				t.Errorf("%s: %s %s: %v", name, u.GetKind(), u.GetName(), err)
			}
		}
	}
}

// TestAuthorityMounted checks that the webhook's pods see their certificate, and no
// pod the key of the authority.
func TestAuthorityMounted(t *testing.T) {
	mounts := map[string]string{}
	for _, u := range render(t, config.Config{Image: image}).Objects {
		text, err := u.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if runs := u.GetKind() == "Deployment"; runs && strings.Contains(string(text), install.AuthoritySecretName) {
			t.Errorf("the pods of %s refer to Secret %s", u.GetName(), install.AuthoritySecretName)
		} else if runs && strings.Contains(string(text), install.CertSecretName) {
			mounts[u.GetName()] = install.CertSecretName
		}
	}
	if diff := cmp.Diff(map[string]string{"fusegate-webhook": install.CertSecretName}, mounts); diff != "" {
		t.Errorf("who mounts the certificate: -want +got\n%s", diff)
	}
}

func TestOrder(t *testing.T) {
	for name, c := range configs(t) {
		t.Run(name, func(t *testing.T) {
			objects := render(t, c).Objects
			kinds := make([]string, len(objects))
			for i, u := range objects {
				kinds[i] = u.GetKind()
			}
			last := len(kinds) - 1
			if kinds[0] != "Namespace" || slices.Index(kinds, "ValidatingWebhookConfiguration") != last {
				t.Errorf("got order %v, want the namespace first and the only webhook configuration last", kinds)
			}
			if pods := slices.Index(kinds, "Deployment"); pods >= 0 && slices.Index(kinds, "ConfigMap") > pods {
				t.Errorf("got order %v, want the ConfigMap before the pods that mount it", kinds)
			}
			crd := slices.Index(kinds, "CustomResourceDefinition")
			if roles := slices.Index(kinds, "ClusterRole"); crd < 0 || crd > roles {
				t.Errorf("got order %v, want the CRD before what refers to it", kinds)
			}
		})
	}
}

func TestOutsideTheCluster(t *testing.T) {
	var got []string
	for _, u := range render(t, configs(t)["webhook-url.yaml"]).Objects {
		got = append(got, u.GetKind())
	}
	crd := "CustomResourceDefinition"
	want := []string{"Namespace", crd, crd, crd, crd, crd, "ClusterRole", "Role", "ClusterRole", "ClusterRole", "Role",
		"ClusterRole", "ClusterRole", "ConfigMap", "ValidatingWebhookConfiguration"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

func TestWebhookURL(t *testing.T) {
	for given, want := range map[string]string{
		"https://192.0.2.1:9443":             "https://192.0.2.1:9443/v1/admit",
		"https://192.0.2.1:9443/":            "https://192.0.2.1:9443/v1/admit",
		"https://192.0.2.1:9443/v1/admit":    "https://192.0.2.1:9443/v1/admit",
		"https://hooks.example.com/fusegate": "https://hooks.example.com/fusegate",
	} {
		for _, w := range webhooks(t, render(t, config.Config{WebhookURL: given, CABundle: fixedCA(t)})) {
			if w.ClientConfig.URL == nil || *w.ClientConfig.URL != want || w.ClientConfig.Service != nil {
				t.Errorf("%s: got client configuration %+v, want URL %s", given, w.ClientConfig, want)
			}
		}
	}
}

// TestConfigMap checks that what is installed can be rendered from what is in
// the cluster.
func TestConfigMap(t *testing.T) {
	for name, c := range configs(t) {
		t.Run(name, func(t *testing.T) {
			plan := render(t, c)
			got, err := config.Parse([]byte(configText(plan)))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			if diff := cmp.Diff(plan, render(t, got), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("plan of the ConfigMap (-want +got):\n%s", diff)
			}
		})
	}
}

// configText is the configuration in the plan's ConfigMap, or "".
func configText(plan install.Plan) string {
	for _, u := range plan.Objects {
		if u.GetKind() == "ConfigMap" {
			text, _, _ := unstructured.NestedString(u.Object, "data", install.ConfigKey)
			return text
		}
	}
	return ""
}

// TestConfigChangeRollsOut checks that pods, which read the configuration once,
// are replaced when it changes.
func TestConfigChangeRollsOut(t *testing.T) {
	before := render(t, config.Config{Image: image})
	after := render(t, config.Config{Image: image, Exempt: exempt.Options{Namespaces: []string{"calico-system"}}})
	for i, u := range before.Objects {
		if u.GetKind() != "Deployment" {
			continue
		}
		old, _, _ := unstructured.NestedMap(u.Object, "spec", "template")
		changed, _, _ := unstructured.NestedMap(after.Objects[i].Object, "spec", "template")
		if cmp.Equal(old, changed) {
			t.Errorf("%s: its pods do not change with the configuration", u.GetName())
		}
	}
}

func TestNamespace(t *testing.T) {
	text, err := render(t, configs(t)["options.yaml"]).YAML()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(exempt.DefaultNamespace)) {
		t.Errorf("the default namespace is left in a plan for another one")
	}
}

func TestLabels(t *testing.T) {
	for _, u := range render(t, config.Config{Image: image}).Objects {
		if got := u.GetLabels()["app.kubernetes.io/part-of"]; got != "fusegate" {
			t.Errorf("%s %s: got label part-of %q", u.GetKind(), u.GetName(), got)
		}
	}
}

// TestRoles checks that no right is wider than it must be.
func TestRoles(t *testing.T) {
	for _, u := range render(t, config.Config{Image: image}).Objects {
		if !strings.HasSuffix(u.GetKind(), "Role") {
			continue
		}
		role := rbacv1.ClusterRole{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, r := range role.Rules {
			checkRule(t, u.GetName(), r)
		}
	}
}

func checkRule(t *testing.T, role string, r rbacv1.PolicyRule) {
	t.Helper()
	if role == "fusegate-audit" && slices.Equal(r.Verbs, []string{"get", "list", "watch"}) {
		return // it reads what policies are about, whatever that is
	}
	if slices.Contains(r.Verbs, "*") || slices.Contains(r.APIGroups, "*") || len(r.NonResourceURLs) > 0 {
		t.Errorf("%s: rule %+v is too wide", role, r)
	}
	constraints := slices.Equal(r.APIGroups, []string{"constraints.gatekeeper.sh"})
	if slices.ContainsFunc(r.Resources, func(s string) bool { return strings.Contains(s, "*") }) && !constraints {
		t.Errorf("%s: rule %+v has a wildcard outside constraints", role, r)
	}
	writes := slices.ContainsFunc(r.Verbs, func(v string) bool { return !slices.Contains([]string{"get", "list", "watch"}, v) })
	if writes && slices.Contains(r.Resources, "validatingwebhookconfigurations") && !slices.Equal(r.ResourceNames, []string{install.ConfigurationName}) {
		t.Errorf("%s: rule %+v writes webhook configurations other than Fusegate's", role, r)
	}
	for _, verb := range []string{"bind", "escalate", "impersonate", "approve", "sign"} {
		if slices.Contains(r.Verbs, verb) {
			t.Errorf("%s: rule %+v grants %s", role, r, verb)
		}
	}
}

// podSpecs are the templates of the Deployments, by name.
func podSpecs(t testing.TB, plan install.Plan) map[string]corev1.PodSpec {
	t.Helper()
	out := map[string]corev1.PodSpec{}
	for _, u := range plan.Objects {
		if u.GetKind() != "Deployment" {
			continue
		}
		spec, _, _ := unstructured.NestedMap(u.Object, "spec", "template", "spec")
		pod := corev1.PodSpec{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &pod); err != nil {
			t.Fatal(err)
		}
		out[u.GetName()] = pod
	}
	return out
}

func TestPods(t *testing.T) {
	for name, pod := range podSpecs(t, render(t, config.Config{Image: image})) {
		c := pod.Containers[0]
		if len(pod.Containers) != 1 || c.Image != image {
			t.Errorf("%s: got containers %+v, want one with image %s", name, pod.Containers, image)
		}
		if role := strings.TrimPrefix(name, "fusegate-"); pod.ServiceAccountName != name || !slices.Contains(c.Args, "--roles="+role) {
			t.Errorf("%s: got account %q and arguments %q", name, pod.ServiceAccountName, c.Args)
		}
		if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.LivenessProbe.HTTPGet.Path == c.ReadinessProbe.HTTPGet.Path {
			t.Errorf("%s: liveness and readiness must be told apart", name)
		}
		if slow := time.Duration(c.LivenessProbe.PeriodSeconds*c.LivenessProbe.FailureThreshold) * time.Second; slow < 30*time.Second {
			t.Errorf("%s: is restarted after %v already", name, slow)
		}
	}
}

func TestRenderExpired(t *testing.T) {
	expired := certificate(t, time.Now().Add(-time.Hour))
	if _, err := install.Render(config.Config{WebhookURL: "https://192.0.2.1", CABundle: expired}); err != nil {
		t.Errorf("what is installed must stay renderable after its certificate expired, got error %v", err)
	}
}

const image = "registry.example.com/fusegate:v1.0.0"

// certificate returns a certificate authority in PEM that is valid until then.
func certificate(t testing.TB, until time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
