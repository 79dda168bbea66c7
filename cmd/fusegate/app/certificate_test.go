package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// keyPairs are files of a certificate directory, or data of its Secret, by name.
type keyPairs map[string][]byte

// client is the TLS of an API server that trusts the authorities among the files.
func (f keyPairs) client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(f["ca.crt"])
	return &tls.Config{RootCAs: roots, ServerName: webhookHost}
}

// publish puts files where their names point to, as a kubelet does: all at once.
func (f keyPairs) publish(t testing.TB, dir string) {
	t.Helper()
	data, link := filepath.Join(dir, "..data"), filepath.Join(dir, "..data_tmp")
	before, _ := os.Readlink(data)
	folder, err := os.MkdirTemp(dir, "..")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range f {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), text, 0o600))
	}
	err = errors.Join(err, os.Symlink(filepath.Base(folder), link), os.Rename(link, data))
	for name := range f {
		if e := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); !errors.Is(e, os.ErrExist) {
			err = errors.Join(err, e)
		}
	}
	if before != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, before)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// presented are the certificates that a client gets, and takes.
func presented(ctx context.Context, address string, client *tls.Config) ([]*x509.Certificate, error) {
	d := tls.Dialer{Config: client}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates, conn.Close()
}

// secret is the data of one of Fusegate's Secrets once it has that key.
func (c *testCluster) secret(t *testing.T, name, key string) keyPairs {
	t.Helper()
	var secret struct{ Data keyPairs } // JSON has bytes in base64, as Secrets do
	await(t, key+" in Secret "+name, func() error {
		text := c.must(t, "", "get", "secret", "-n", "fusegate-system", name, "-o", "json")
		if err := json.Unmarshal([]byte(text), &secret); err != nil {
			return err
		}
		if len(secret.Data[key]) == 0 {
			return fmt.Errorf("keys: %d", len(secret.Data))
		}
		return nil
	})
	return secret.Data
}

// mountSecret does what the kubelet does with the webhook's volume.
func (c *testCluster) mountSecret(t *testing.T, dir string) {
	t.Helper()
	c.secret(t, "fusegate-webhook-cert", "tls.key").publish(t, dir)
}
