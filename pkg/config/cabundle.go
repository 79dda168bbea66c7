package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

func (c Config) checkCABundle() error {
	switch {
	case c.InCluster() && len(c.CABundle) > 0:
		return errors.New("caBundle: Fusegate makes and rotates the certificate of its Service itself; leave it out, or set webhookURL if the webhook does not run in the cluster")
	case c.InCluster():
		return nil
	}
	_, err := c.certificates()
	return err
}

func (c Config) checkExpiry(now time.Time) error {
	if c.InCluster() {
		return nil
	}
	certificates, err := c.certificates()
	if err != nil {
		return nil // checkCABundle reports it.
	}
	var errs []error
	for _, cert := range certificates {
		if now.After(cert.NotAfter) {
			errs = append(errs, fmt.Errorf("caBundle: the certificate of %q expired at %s; renew it, or leave it out if another one took its place",
				cert.Subject, cert.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
	return errors.Join(errs...)
}

// certificates parses the CABundle.
func (c Config) certificates() ([]*x509.Certificate, error) {
	const fix = "give the certificates that the webhook's is verified with, in PEM"
	out, err := certificatesIn("caBundle", c.CABundle, fix)
	if err == nil && len(out) == 0 {
		return nil, errors.New("caBundle: holds no certificate, without which no API server trusts webhookURL; " + fix)
	}
	return out, err
}

// certificatesIn parses certificates in PEM, which are the value of a key.
func certificatesIn(key string, text []byte, fix string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(strings.TrimSpace(string(rest))) > 0 {
				return nil, fmt.Errorf("%s: holds what is not PEM; %s", key, fix)
			}
			return out, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: holds a %s, and everybody who may read the configuration would see it; %s", key, block.Type, fix)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w; %s", key, len(out)+1, err, fix)
		}
		out = append(out, cert)
	}
}

// checkClients wants both of what says who an API server is, or none. A name is
// needed: an authority of the cluster may sign certificates for many others.
func (c Config) checkClients() error {
	const fix = "give the certificates that the API servers' client certificates are verified with, in PEM"
	authorities, err := certificatesIn("clientCA", c.ClientCA, fix)
	switch {
	case err != nil:
		return err
	case len(authorities) == 0 && len(c.ClientCA) > 0:
		return errors.New("clientCA: holds no certificate; " + fix)
	case len(authorities) == 0 && len(c.ClientNames) > 0:
		return errors.New("clientNames: needs clientCA; " + fix)
	case len(authorities) > 0 && len(c.ClientNames) == 0:
		return errors.New("clientCA: needs clientNames; name the subjects (CN) of the certificates that the API servers present")
	}
	return nil
}
