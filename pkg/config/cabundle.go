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
	var out []*x509.Certificate
	for rest := c.CABundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(strings.TrimSpace(string(rest))) > 0 {
				return nil, errors.New("caBundle: holds what is not PEM; " + fix)
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("caBundle: holds a %s, and everybody who may read webhook configurations would see it; %s", block.Type, fix)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("caBundle: certificate %d: %w; %s", len(out)+1, err, fix)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("caBundle: holds no certificate, without which no API server trusts webhookURL; " + fix)
	}
	return out, nil
}
