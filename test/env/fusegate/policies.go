package fusegate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/env"
)

// LabelTemplate is a template whose constraints want the label named by a
// parameter; word is part of what it says.
func LabelTemplate(kind, word string) string {
	return fmt.Sprintf(`
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
          properties: {label: {type: string}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package labels
      violation[{"msg": msg}] {
        not input.review.object.metadata.labels[input.parameters.label]
        msg := sprintf("%s label %%v", [input.parameters.label])
      }
`, strings.ToLower(kind), kind, word)
}

// Constraint is one of a LabelTemplate; match is YAML in one line.
func Constraint(kind, name, action, label, match string) string {
	return fmt.Sprintf(`
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: %s
metadata: {name: %s}
spec:
  enforcementAction: %s
  match: %s
  parameters: {label: %s}
`, kind, name, action, match, label)
}

// ConfigMap is one with labels as in "owner: me".
func ConfigMap(namespace, name string, labels ...string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s, labels: {%s}}\n",
		name, namespace, strings.Join(labels, ", "))
}

// DenyAll denies every request of every operation on every kind.
const DenyAll = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: denyall}
spec:
  crd: {spec: {names: {kind: DenyAll}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    operations: ["*"]
    rego: |
      package denyall
      violation[{"msg": msg}] {
        msg := sprintf("no %v of %v", [input.review.operation, input.review.kind.kind])
      }
`

// DenyEverything is the constraint of DenyAll that matches all.
const DenyEverything = `
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: DenyAll
metadata: {name: everything}
`

// Object is one of any kind; rest is YAML, and so may be more of the metadata
// after the name.
func Object(apiVersion, kind, namespace, name, rest string) string {
	meta := "name: " + name
	if namespace != "" {
		meta += ", namespace: " + namespace
	}
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {%s}\n%s\n", apiVersion, kind, meta, rest)
}

// Pause is the spec of a Pod.
const Pause = "spec: {containers: [{name: c, image: registry.example.com/pause}]}"

// MountSecret does what the kubelet does with the volume of the Secret of the
// serving certificate: all files change at once.
func (c *Cluster) MountSecret(t testing.TB, dir string) {
	t.Helper()
	secret := &corev1.Secret{}
	env.Await(t, "the rotated certificate", func() error {
		if err := c.Client(t).Get(t.Context(), client.ObjectKey{Namespace: Namespace, Name: "fusegate-webhook-cert"}, secret); err != nil {
			return err
		}
		if len(secret.Data["tls.key"]) == 0 {
			return fmt.Errorf("keys: %d", len(secret.Data))
		}
		return nil
	})
	if err := publish(secret.Data, dir); err != nil {
		t.Fatal(err)
	}
}

// publish puts files where their names point to.
func publish(files map[string][]byte, dir string) error {
	data, link := filepath.Join(dir, "..data"), filepath.Join(dir, "..data_tmp")
	before, _ := os.Readlink(data)
	folder, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), text, 0o600))
	}
	err = errors.Join(err, os.Symlink(filepath.Base(folder), link), os.Rename(link, data))
	for name := range files {
		if e := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); !errors.Is(e, os.ErrExist) {
			err = errors.Join(err, e)
		}
	}
	if before != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, before)))
	}
	return err
}

// Presented is the TLS connection that a server accepts from who trusts the
// authority in a file.
func Presented(t testing.TB, address, authority, name string) (tls.ConnectionState, error) {
	t.Helper()
	roots, err := os.ReadFile(authority)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	d := tls.Dialer{Config: &tls.Config{RootCAs: trusted(roots), ServerName: name}}
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.(*tls.Conn).ConnectionState(), conn.Close()
}

func trusted(pem []byte) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return roots
}
