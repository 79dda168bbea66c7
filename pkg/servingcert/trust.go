package servingcert

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// trustedUntil is the PEM header of a retired authority.
	trustedUntil = "Trusted-Until"
	// maxRetired bounds the caBundle. It is reached only where somebody keeps
	// taking the authority away; the oldest goes first.
	maxRetired = 20
)

// retired is an authority that signs no more, and is trusted until the last
// certificate that it can have signed has expired.
type retired struct {
	certificate *x509.Certificate
	until       time.Time
}

// retire adds certificates that are valid and not among those known, to be
// trusted until that time, or until they expire if that is sooner. The newest
// come first.
func retire(known []retired, certificates []*x509.Certificate, until, now time.Time) []retired {
	for _, c := range certificates {
		same := func(r retired) bool { return r.certificate.Equal(c) }
		if now.After(c.NotAfter) || slices.ContainsFunc(known, same) {
			continue
		}
		end := until
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
		known = append(known, retired{c, end})
	}
	slices.SortStableFunc(known, func(a, b retired) int { return b.certificate.NotBefore.Compare(a.certificate.NotBefore) })
	return known[:min(len(known), maxRetired)]
}

// unknown are authorities in the pods' Secret that the certificate there is valid
// by, where by those of t it is not: after a rollback an earlier version made them,
// or the Secret is a backup's. Pods present it, whoever made it.
func (t trust) unknown(serving *corev1.Secret, names []string, now time.Time) []*x509.Certificate {
	if serving == nil {
		return nil
	}
	data := serving.Data
	takes := func(roots ...*x509.Certificate) bool {
		return servable(data[servingCertificate], data[servingKey], roots, names, now)
	}
	if takes(parse(t.bundle())...) {
		return nil
	}
	return slices.DeleteFunc(parse(data[servingBundle]), func(c *x509.Certificate) bool { return !takes(c) })
}

// signedUntil is when everything has expired that replaced authorities can have
// signed for the pods.
func signedUntil(serving *corev1.Secret, now time.Time) time.Time {
	until := now.Add(trustAfter)
	if serving == nil {
		return until
	}
	for _, leaf := range parse(serving.Data[servingCertificate]) {
		if leaf.NotAfter.After(until) {
			until = leaf.NotAfter
		}
	}
	return until
}

// encodeRetired is the inverse of parseRetired.
func encodeRetired(list []retired) []byte {
	var out bytes.Buffer
	for _, r := range list {
		_ = pem.Encode(&out, &pem.Block{ // a buffer takes everything
			Type:    "CERTIFICATE",
			Headers: map[string]string{trustedUntil: r.until.UTC().Format(time.RFC3339)},
			Bytes:   r.certificate.Raw,
		})
	}
	return out.Bytes()
}

// parseRetired reads authorities that are still to be trusted. One whose header
// somebody removed or spoilt is trusted until it expires.
func parseRetired(text []byte, now time.Time) []retired {
	var out []retired
	for c, headers := range certificatesIn(text) {
		until, err := time.Parse(time.RFC3339, headers[trustedUntil])
		if err != nil || c.NotAfter.Before(until) {
			until = c.NotAfter
		}
		if now.Before(until) {
			out = append(out, retired{c, until})
		}
	}
	return out
}

// certificatesIn yields the certificates in PEM, whatever else is there.
func certificatesIn(text []byte) func(yield func(*x509.Certificate, map[string]string) bool) {
	return func(yield func(*x509.Certificate, map[string]string) bool) {
		for {
			var block *pem.Block
			if block, text = pem.Decode(text); block == nil {
				return
			}
			if block.Type != "CERTIFICATE" {
				continue
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err == nil && !yield(c, block.Headers) {
				return
			}
		}
	}
}

// parse returns the certificates in PEM texts, whatever else is there.
func parse(texts ...[]byte) []*x509.Certificate {
	var out []*x509.Certificate
	for _, text := range texts {
		for c := range certificatesIn(text) {
			out = append(out, c)
		}
	}
	return out
}
