package webhook

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Clients knows API servers by the client certificates that they present. It is safe
// for concurrent use.
type Clients struct {
	roots *x509.CertPool
	names []string
}

// NewClients returns Clients that trust certificates of these authorities, in PEM,
// whose subject has one of these common names.
func NewClients(authorities []byte, names []string) (*Clients, error) {
	c := &Clients{roots: x509.NewCertPool(), names: slices.Clone(names)}
	if !c.roots.AppendCertsFromPEM(authorities) {
		return nil, errors.New("there is no certificate")
	}
	return c, nil
}

// Known tells whether the request came over a connection with such a certificate.
func (c *Clients) Known(r *http.Request) bool {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	presented := r.TLS.PeerCertificates
	if !slices.Contains(c.names, presented[0].Subject.CommonName) {
		return false
	}
	between := x509.NewCertPool()
	for _, cert := range presented[1:] {
		between.AddCert(cert)
	}
	_, err := presented[0].Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// knownKey is in the context of a review that an API server has sent for sure.
type knownKey struct{}

// context says whether it is known who sent the request.
func (in *intake) context(ctx context.Context) context.Context {
	if in.limits.clients == nil || in.key.Stranger {
		return ctx
	}
	return context.WithValue(ctx, knownKey{}, true)
}

// attested is r without what its sender may have made up: what is recorded comes into
// the status of constraints, and anybody can send reviews. The log names all.
func attested(ctx context.Context, r *policy.Review) *policy.Review {
	if ctx.Value(knownKey{}) != nil {
		return r
	}
	return &policy.Review{Operation: r.Operation}
}
