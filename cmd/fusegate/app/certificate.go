package app

import (
	"crypto/x509"
	"encoding/pem"
	"math"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
)

// expiryOf is a gauge of when the serving certificate in a directory expires.
// It is read anew each time, as the server does.
func expiryOf(dir string) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fusegate_certificate_expiry_timestamp_seconds",
		Help: "When the serving certificate of the webhook expires; NaN if there is none.",
	}, func() float64 { return expiry(filepath.Join(dir, "tls.crt")) })
}

func expiry(file string) float64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return math.NaN()
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return math.NaN()
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return math.NaN()
	}
	return float64(cert.NotAfter.Unix())
}
