package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime of all certificates: longer than any demo.
const lifetime = 30 * 24 * time.Hour

// pki is everything that has a key. etcd demands client certificates, so that
// no API server can end up on the etcd of another control plane, and nobody
// else on the machine on this one. As in a real cluster there are three
// authorities: what etcd or an aggregated API server accepts is no identity at
// the API server.
type pki struct {
	ca, etcdCA, frontProxyCA *keyPair
	serving                  *keyPair // of all but etcd
	etcdServing, etcdClient  *keyPair
	frontProxy               *keyPair // of the API servers at aggregated ones
	// The files of the key that signs the tokens of service accounts.
	serviceAccountKey, serviceAccountPublicKey string
}

// keyPair is a certificate with its key, both also as files.
type keyPair struct {
	cert              *x509.Certificate
	key               *ecdsa.PrivateKey
	pem, keyPEM       []byte
	certFile, keyFile string
}

func newPKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p, m := &pki{}, &mint{dir: dir}
	p.ca = m.issue("ca", authority("fusegate-controlplane"), nil)
	p.frontProxyCA = m.issue("front-proxy-ca", authority("fusegate-front-proxy"), nil)
	p.etcdCA = m.issue("etcd-ca", authority("fusegate-etcd"), nil)
	p.serving = m.issue("serving", server(), p.ca)
	p.etcdServing = m.issue("etcd-serving", server(), p.etcdCA)
	p.etcdClient = m.issue("etcd-client", client("kube-apiserver-etcd-client"), p.etcdCA)
	p.frontProxy = m.issue("front-proxy", client(frontProxyUser), p.frontProxyCA)
	p.serviceAccountKey, p.serviceAccountPublicKey = m.signingKey("service-account")
	return p, m.err
}

// frontProxyUser is the name under which an API server calls aggregated ones.
const frontProxyUser = "front-proxy-client"

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

// server is also for clients: etcd dials itself with its serving certificate.
func server() *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
}

func client(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// mint makes keys and files and remembers the first error, after which it does
// nothing.
type mint struct {
	dir    string
	serial int64
	err    error
}

// issue signs the template with the issuer's key, or its own without issuer.
func (m *mint) issue(name string, template *x509.Certificate, issuer *keyPair) *keyPair {
	if m.err != nil {
		return nil
	}
	kp, err := m.sign(template, issuer)
	if err != nil {
		m.err = fmt.Errorf("issuing the certificate %s: %w", name, err)
		return nil
	}
	kp.certFile = m.write(name+".crt", kp.pem)
	kp.keyFile = m.write(name+".key", kp.keyPEM)
	return kp
}

func (m *mint) sign(template *x509.Certificate, issuer *keyPair) (*keyPair, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	m.serial++
	template.SerialNumber = big.NewInt(m.serial)
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(lifetime)
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &keyPair{
		cert: cert, key: key, keyPEM: keyPEM,
		pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}, nil
}

// signingKey writes a key without certificate.
func (m *mint) signingKey(name string) (private, public string) {
	if m.err != nil {
		return "", ""
	}
	key, keyPEM, err := newKey()
	if err != nil {
		m.err = err
		return "", ""
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		m.err = err
		return "", ""
	}
	return m.write(name+".key", keyPEM),
		m.write(name+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (m *mint) write(name string, content []byte) string {
	path := filepath.Join(m.dir, name)
	if err := writePrivate(path, content); err != nil && m.err == nil {
		m.err = err
	}
	return path
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// clientTLS trusts all components. It shows the client certificate to etcd; the
// others ask for one of another authority and get none.
func (p *pki) clientTLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(p.ca.cert)
	roots.AddCert(p.etcdCA.cert)
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		RootCAs:      roots,
		Certificates: []tls.Certificate{{Certificate: [][]byte{p.etcdClient.cert.Raw}, PrivateKey: p.etcdClient.key}},
	}
}
