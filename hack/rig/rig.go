// Package rig is what the benches stand on: an API server that knows Fusegate's
// kinds, and processes of fusegate to measure.
package rig

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
	"github.com/fusegate/fusegate/pkg/servingcert"
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
	plan, err := install.Render(config.Config{Image: "fusegate"})
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

// Certify makes a folder with what the webhook's pods mount.
func Certify(dir string) error {
	now := time.Now()
	authority, err := servingcert.NewAuthority(now)
	if err != nil {
		return err
	}
	crt, key, err := authority.Issue([]string{Host}, now)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"ca.crt": authority.CertificatePEM(), "tls.crt": crt, "tls.key": key} {
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
