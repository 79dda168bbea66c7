package fusegate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/test/env"
)

// Secret is the data of one of Fusegate's Secrets once it has that key.
func (c *Cluster) Secret(t testing.TB, name, key string) map[string][]byte {
	t.Helper()
	secret := &corev1.Secret{}
	env.Await(t, key+" in Secret "+name, func() error {
		if err := c.Client(t).Get(t.Context(), client.ObjectKey{Namespace: Namespace, Name: name}, secret); err != nil {
			return err
		}
		if len(secret.Data[key]) == 0 {
			return fmt.Errorf("keys: %d", len(secret.Data))
		}
		return nil
	})
	return secret.Data
}

// MountSecret does what the kubelet does with the volume of the Secret of the
// serving certificate: all files change at once.
func (c *Cluster) MountSecret(t testing.TB, dir string) {
	t.Helper()
	if err := publish(c.Secret(t, "fusegate-webhook-cert", "tls.key"), dir); err != nil {
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
