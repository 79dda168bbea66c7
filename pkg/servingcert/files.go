package servingcert

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// poll is how often a certificate that is not there yet is looked for.
const poll = time.Second

// Files is the certificate in a folder, tls.crt and tls.key: a mounted Secret, or
// the operator's own, of whatever kind of key.
type Files struct {
	certificate, key string
	log              logr.Logger
	watcher          *certwatcher.CertWatcher
}

// NewFiles returns the certificate of a folder, which need not be there yet.
func NewFiles(dir string, log logr.Logger) *Files {
	return &Files{certificate: filepath.Join(dir, servingCertificate), key: filepath.Join(dir, servingKey), log: log}
}

// Wait returns once the files are there and have been read, or with the error
// that they gave; it comes first. In a cluster the certificate is made after the
// first pods have started.
func (f *Files) Wait(ctx context.Context) error {
	said := false
	err := wait.PollUntilContextCancel(ctx, poll, true, func(context.Context) (bool, error) {
		for _, file := range []string{f.certificate, f.key} {
			if _, err := os.Stat(file); err != nil {
				if !said {
					f.log.Info("waiting for the serving certificate", "reason", err.Error())
				}
				said = true
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if f.watcher, err = certwatcher.New(f.certificate, f.key); err != nil {
		return fmt.Errorf("reading the serving certificate: %w", err)
	}
	return nil
}

// Start reads the files again when they change, until ctx ends.
func (f *Files) Start(ctx context.Context) error {
	if err := f.watcher.Start(ctx); err != nil {
		return fmt.Errorf("watching the serving certificate: %w", err)
	}
	return nil
}

// GetCertificate is for tls.Config.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.watcher.GetCertificate(hello)
}

// NewExpiry returns a gauge of when the certificate in a folder expires. The file
// is read each time, as the server does.
func NewExpiry(dir string) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fusegate_certificate_expiry_timestamp_seconds",
		Help: "When the serving certificate of the webhook expires; NaN if there is none.",
	}, func() float64 { return expiry(filepath.Join(dir, servingCertificate)) })
}

func expiry(file string) float64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return math.NaN()
	}
	chain := parse(text)
	if len(chain) == 0 {
		return math.NaN()
	}
	return float64(chain[0].NotAfter.Unix())
}
