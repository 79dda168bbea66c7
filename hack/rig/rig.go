// Package rig is what the benches stand on: an API server that knows Fusegate's
// kinds, and processes of fusegate to measure.
package rig

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/install"
)

// Patience bounds each wait for a process or the API server.
const Patience = 5 * time.Minute

// Host is the name that the certificate of Certify is for.
const Host = "localhost"

// Apply writes an object as soon as its kind is served.
func Apply(ctx context.Context, c client.Client, u *unstructured.Unstructured) error {
	return wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, Patience, true, func(ctx context.Context) (bool, error) {
		err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u.DeepCopy()), client.FieldOwner("bench"), client.ForceOwnership)
		if apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err) {
			return false, nil
		}
		return err == nil, err
	})
}

// ApplyKinds writes the CRDs and the namespace that fusegate serve needs.
func ApplyKinds(ctx context.Context, c client.Client) error {
	plan, err := install.Render(install.Config{Image: "fusegate"})
	if err != nil {
		return err
	}
	for _, u := range plan.Objects {
		if u.GetKind() != "CustomResourceDefinition" && u.GetKind() != "Namespace" {
			continue
		}
		if err := Apply(ctx, c, u); err != nil {
			return err
		}
	}
	return nil
}

// Certify makes a folder with what the rotation puts into the webhook's Secret.
func Certify(dir string) error {
	r := rotator.CertRotator{
		CAName: "fusegate-ca", CAOrganization: "fusegate", DNSName: Host,
		ExtKeyUsages: &[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	begin := time.Now().Add(-time.Hour)
	end := begin.Add(24 * time.Hour)
	ca, err := r.CreateCACert(begin, end)
	if err != nil {
		return fmt.Errorf("making an authority: %w", err)
	}
	crt, key, err := r.CreateCertPEM(ca, begin, end)
	if err != nil {
		return fmt.Errorf("making the webhook's certificate: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"ca.crt": ca.CertPEM, "ca.key": ca.KeyPEM, "tls.crt": crt, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Address is one of the loopback interface that nobody listens at.
func Address() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
