package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
)

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

func TestValidate(t *testing.T) {
	ca := certificate(t, time.Now().Add(time.Hour))
	url := func(u string) config.Config { return config.Config{WebhookURL: u, CABundle: ca} }
	cases := map[string]struct {
		reason string
		config config.Config
		want   []string // parts of the error; none if it is valid
	}{
		"Smallest":      {reason: "an image is all that is needed", config: config.Config{Image: image}},
		"Digest":        {reason: "images are best named by digest", config: config.Config{Image: "fusegate@sha256:" + strings.Repeat("a", 64)}},
		"URL":           {reason: "a webhook outside the cluster needs no image", config: url("https://192.0.2.1:9443")},
		"URLWithPath":   {reason: "a proxy may serve it elsewhere", config: url("https://hooks.example.com/fusegate")},
		"OwnNamespace":  {reason: "it may be said twice if it is the same", config: config.Config{Image: image, Namespace: "policy", Exempt: exempt.Options{OwnNamespace: "policy"}}},
		"ShortTimeout":  {reason: "one second is a whole timeout", config: config.Config{Image: image, TimeoutSeconds: 1}},
		"NoImage":       {reason: "pods need one", want: []string{"image: is empty", "webhookURL"}},
		"BadImage":      {reason: "an unset variable leaves half a reference", config: config.Config{Image: "fusegate:"}, want: []string{`image: "fusegate:"`, "registry.example.com/fusegate:v1.0.0"}},
		"LongTimeout":   {reason: "that is how API servers stopped starting", config: config.Config{Image: image, TimeoutSeconds: 4}, want: []string{"timeoutSeconds: 4", "use 1 to 3", "audit"}},
		"NoTimeout":     {reason: "negative is no default", config: config.Config{Image: image, TimeoutSeconds: -1}, want: []string{"timeoutSeconds: -1"}},
		"KubeSystem":    {reason: "it must not share a namespace with the control plane", config: config.Config{Image: image, Namespace: "kube-system"}, want: []string{`namespace: "kube-system"`, "a namespace of its own"}},
		"KubePrefix":    {reason: "the prefix is reserved", config: config.Config{Image: image, Namespace: "kube-policy"}, want: []string{"reserved for Kubernetes"}},
		"Default":       {reason: "tenants use it", config: config.Config{Image: image, Namespace: "default"}, want: []string{`namespace: "default"`}},
		"BadNamespace":  {reason: "it must be a name", config: config.Config{Image: image, Namespace: "A b"}, want: []string{`namespace: "A b": is not the name`}},
		"OtherOwn":      {reason: "two own namespaces would leave one unprotected", config: config.Config{Image: image, Namespace: "policy", Exempt: exempt.Options{OwnNamespace: "other"}}, want: []string{"exempt.ownNamespace", "leave it out"}},
		"BadExemption":  {reason: "the perimeter's own errors are passed on", config: config.Config{Image: image, Exempt: exempt.Options{Groups: []string{"system:masters"}}}, want: []string{"exempt: groups[0]", "system:masters"}},
		"Replicas":      {reason: "negative is no default", config: config.Config{Image: image, WebhookReplicas: -1, ControllerReplicas: 101}, want: []string{"webhookReplicas: -1", "controllerReplicas: 101"}},
		"HTTP":          {reason: "the API server refuses it later than we can", config: url("http://192.0.2.1"), want: []string{"webhookURL", "only https"}},
		"NoHost":        {reason: "nobody answers there", config: url("https:///x"), want: []string{"has no host"}},
		"Query":         {reason: "the API server refuses it", config: url("https://192.0.2.1/?x=y"), want: []string{"holds a query"}},
		"EmptyQuery":    {reason: "even an empty one", config: url("https://192.0.2.1/?"), want: []string{"holds a query"}},
		"Fragment":      {reason: "the API server refuses it", config: url("https://192.0.2.1/#x"), want: []string{"holds a fragment"}},
		"Credentials":   {reason: "they would be world-readable", config: url("https://me:hunter2@192.0.2.1"), want: []string{"holds credentials"}},
		"Service":       {reason: "API servers do not use the cluster's DNS", config: url("https://fusegate.policy.svc:443"), want: []string{"cluster's DNS", "leave webhookURL empty"}},
		"ServiceFQDN":   {reason: "in any of its forms", config: url("https://Fusegate.policy.svc.corp.example.com./x"), want: []string{"cluster's DNS"}},
		"ClusterLocal":  {reason: "in any of its forms", config: url("https://db.cluster.local"), want: []string{"cluster's DNS"}},
		"NoCA":          {reason: "API servers would trust only public authorities", config: config.Config{WebhookURL: "https://192.0.2.1"}, want: []string{"caBundle: holds no certificate"}},
		"NotPEM":        {reason: "a path instead of a file", config: config.Config{WebhookURL: "https://192.0.2.1", CABundle: []byte("/etc/ca.pem")}, want: []string{"holds what is not PEM"}},
		"TrailingWaste": {reason: "half a bundle must not pass", config: config.Config{WebhookURL: "https://192.0.2.1", CABundle: append(ca[:len(ca):len(ca)], "-----BEGIN CERT"...)}, want: []string{"holds what is not PEM"}},
		"Key":           {reason: "a private key must never be installed", config: config.Config{WebhookURL: "https://192.0.2.1", CABundle: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY"})}, want: []string{"holds a EC PRIVATE KEY"}},
		"Garbage":       {reason: "the framing alone is no certificate", config: config.Config{WebhookURL: "https://192.0.2.1", CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})}, want: []string{"caBundle: certificate 1"}},
		"Expired":       {reason: "no API server would trust it", config: config.Config{WebhookURL: "https://192.0.2.1", CABundle: certificate(t, time.Now().Add(-time.Hour))}, want: []string{`caBundle: the certificate of "CN=test" expired`}},
		"Reports":       {reason: "there are two formats", config: config.Config{Image: image, Reports: []string{"openreports", "sarif"}}, want: []string{`reports[1]: "sarif": is not a format of reports; use openreports, policyreport`}},
		"ReportLimit":   {reason: "etcd is small", config: config.Config{Image: image, ReportLimit: 1_000_000}, want: []string{"reportLimit: 1000000: use 1 to 100000; every report is an object in etcd"}},
		"AuditLimit":    {reason: "so is a status", config: config.Config{Image: image, AuditLimit: 501}, want: []string{"auditLimit: 501: use 1 to 500"}},
		"AuditResync":   {reason: "it would never end", config: config.Config{Image: image, AuditResync: time.Millisecond}, want: []string{"auditResync: 1ms: is less than a second", "30m"}},
		"AuditWorkers":  {reason: "nobody would review", config: config.Config{Image: image, AuditWorkers: -1}, want: []string{"auditWorkers: -1"}},
		"CheckEvery":    {reason: "it is a rate", config: config.Config{Image: image, CheckEvery: new(int32(-1))}, want: []string{"checkEvery: -1", "0 for none"}},
		"NoCheck":       {reason: "0 is a rate", config: config.Config{Image: image, CheckEvery: new(int32(0))}},
		"ObjectBytes":   {reason: "every ConfigMap would be refused", config: config.Config{Image: image, MaxObjectBytes: 1024}, want: []string{"maxObjectBytes: 1024: use 65536 to 50331648"}},
		"Containers":    {reason: "every Pod would be refused", config: config.Config{Image: image, MaxObjectContainers: 1}, want: []string{"maxObjectContainers: 1: use 10 to 1000000"}},
		"ObjectDepth":   {reason: "no API server reads deeper", config: config.Config{Image: image, MaxObjectDepth: 10_001}, want: []string{"maxObjectDepth: 10001: use 100 to 10000"}},
		"LogLevel":      {reason: "pods would not start", config: config.Config{Image: image, LogLevel: "verbose"}, want: []string{`logLevel: "verbose"`, "error, info, debug"}},
		"LogFormat":     {reason: "pods would not start", config: config.Config{Image: image, LogFormat: "xml"}, want: []string{`logFormat: "xml"`, "json, console"}},
		"APIServers":    {reason: "whoever reads the ConfigMap sees it", config: config.Config{Image: image, APIServers: []string{"", "https://me:hunter2@192.0.2.1"}}, want: []string{`apiServers[0]: ""`, "apiServers[1]", "holds credentials"}},
		"ClientCAOnly":  {reason: "an authority signs for many", config: config.Config{Image: image, ClientCA: ca}, want: []string{"clientCA: needs clientNames"}},
		"ClientNames":   {reason: "a name alone can be made up", config: config.Config{Image: image, ClientNames: []string{"x"}}, want: []string{"clientNames: needs clientCA"}},
		"ClientCAWaste": {reason: "a path instead of a file", config: config.Config{Image: image, ClientNames: []string{"x"}, ClientCA: []byte("/etc/ca.pem")}, want: []string{"clientCA: holds what is not PEM"}},
		"Sources":       {reason: "networks and single hosts of both families", config: config.Config{Image: image, WebhookSources: []string{"192.0.2.0/28", "10.0.0.1/32", "2001:db8::/64"}}},
		"SourcesOutside": {reason: "there are no pods that a NetworkPolicy could select", config: config.Config{WebhookURL: "https://192.0.2.1", CABundle: ca, WebhookSources: []string{"192.0.2.0/28"}},
			want: []string{"webhookSources: is for the webhook's pods", "leave it out"}},
		"BadSources": {reason: "all of them are named, with what to write", config: config.Config{Image: image, WebhookSources: []string{"192.0.2.1", "2001:db8::1", "node-1", "192.0.2.9/28", "0.0.0.0/0", "::/0", "::ffff:192.0.2.0/124", ""}},
			want: []string{`webhookSources[0]: "192.0.2.1": is an address and no CIDR; write 192.0.2.1/32`, `webhookSources[1]: "2001:db8::1": is an address and no CIDR; write 2001:db8::1/128`,
				`webhookSources[2]: "node-1": is not a CIDR`, `webhookSources[3]: "192.0.2.9/28": has bits set beyond its length; write 192.0.2.0/28, or 192.0.2.9/32`,
				`webhookSources[4]: "0.0.0.0/0": would let everybody in`, `webhookSources[5]: "::/0": would let everybody in`, "webhookSources[6]", "write it as IPv4", `webhookSources[7]: ""`}},
		"CAWithService": {reason: "the injector owns that field", config: config.Config{Image: image, CABundle: ca}, want: []string{"caBundle", "leave it out"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := tc.config.Validate()
			if err == nil && len(tc.want) > 0 {
				t.Fatalf("%s: got no error, want one with %q", tc.reason, tc.want)
			}
			if err != nil && len(tc.want) == 0 {
				t.Fatalf("%s: got error %v, want none", tc.reason, err)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: got error %q, want one with %q", tc.reason, err, part)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds a password: %v", err)
			}
		})
	}
}
