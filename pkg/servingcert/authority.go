package servingcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

const (
	year = 365 * 24 * time.Hour
	// AuthorityLife is how long an authority is valid.
	AuthorityLife = 10 * year
	// LeafLife is how long a serving certificate is valid: with a third of it to
	// spare, one outlives a controller that does not run for four months.
	LeafLife = year
	// skew is how far clocks may differ: certificates are valid from that long ago.
	skew = time.Hour
)

// Authority signs serving certificates.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes an authority with an ECDSA P-256 key.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the authority's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "fusegate-ca", Organization: []string{"fusegate"}},
		NotBefore: now.Add(-skew), NotAfter: now.Add(AuthorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	own, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the authority's certificate: %w", err)
	}
	return &Authority{Certificate: own, key: key}, nil
}

// CertificatePEM returns the authority's certificate: what a client trusts.
func (a *Authority) CertificatePEM() []byte { return encode(a.Certificate) }

// keyPEM is what makes it an authority: it goes into its Secret and nowhere else.
func (a *Authority) keyPEM() ([]byte, error) {
	text, err := keyutil.MarshalPrivateKeyToPEM(a.key)
	if err != nil {
		return nil, fmt.Errorf("encoding the authority's key: %w", err)
	}
	return text, nil
}

// Issue signs a serving certificate for DNS names, with an ECDSA P-256 key of its
// own. It is valid for LeafLife, or as long as the authority if that is shorter.
func (a *Authority) Issue(names []string, now time.Time) (certificatePEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generating the serving certificate's key: %w", err)
	}
	end := now.Add(LeafLife)
	if a.Certificate.NotAfter.Before(end) {
		end = a.Certificate.NotAfter
	}
	leaf, err := sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: names[0]},
		DNSNames:  names,
		NotBefore: now.Add(-skew), NotAfter: end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}, a.Certificate, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("signing the serving certificate: %w", err)
	}
	if keyPEM, err = keyutil.MarshalPrivateKeyToPEM(key); err != nil {
		return nil, nil, fmt.Errorf("encoding the serving certificate's key: %w", err)
	}
	return encode(leaf), keyPEM, nil
}

// sign has CreateCertificate choose the serial number and the key identifiers.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// loadAuthority reads an authority of PEM texts, or says why it cannot sign.
func loadAuthority(certificatePEM, keyPEM []byte, now time.Time) (a *Authority, problem string) {
	if len(certificatePEM) == 0 && len(keyPEM) == 0 {
		return nil, "there was none"
	}
	pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return nil, "the one before cannot be read: " + err.Error()
	}
	switch c := pair.Leaf; {
	case !isP256(c):
		return nil, "the key of the one before is not ECDSA P-256"
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, "the one before may not sign certificates"
	case now.After(c.NotAfter):
		return nil, "the one before has expired"
	case now.Before(c.NotBefore):
		return nil, "the one before is not valid yet"
	case due(c, now):
		return nil, "the one before is due for renewal"
	}
	return &Authority{Certificate: pair.Leaf, key: pair.PrivateKey.(crypto.Signer)}, "" // X509KeyPair makes nothing else
}

// leafProblem says why a serving certificate has to be replaced by one of a; empty
// if it does not.
func leafProblem(certificatePEM, keyPEM []byte, a *Authority, names []string, now time.Time) string {
	if len(certificatePEM) == 0 && len(keyPEM) == 0 {
		return "there was none"
	}
	pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return "the one before cannot be read: " + err.Error()
	}
	if !isP256(pair.Leaf) {
		return "the key of the one before is not ECDSA P-256"
	}
	if err := verify(pair.Leaf, []*x509.Certificate{a.Certificate}, names, now); err != nil {
		return "the one before is not valid: " + err.Error()
	}
	if due(pair.Leaf, now) {
		return "the one before is due for renewal"
	}
	return ""
}

// servable reports whether clients that trust roots take a serving certificate.
func servable(certificatePEM, keyPEM []byte, roots []*x509.Certificate, names []string, now time.Time) bool {
	pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
	return err == nil && verify(pair.Leaf, roots, names, now) == nil
}

func verify(c *x509.Certificate, roots []*x509.Certificate, names []string, now time.Time) error {
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	_, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now}) // for servers, if nothing else is said
	for _, name := range names {
		if err == nil {
			err = c.VerifyHostname(name)
		}
	}
	return err
}

// due reports whether two thirds of a certificate's life have passed, which is
// when cert-manager renews, too.
func due(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2))
}

func isP256(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	return ok && key.Curve == elliptic.P256()
}

// encode gives PEM, one certificate after the other.
func encode(certificates ...*x509.Certificate) []byte {
	out, err := cert.EncodeCertificates(certificates...)
	if err != nil {
		return nil // a buffer takes everything
	}
	return out
}
