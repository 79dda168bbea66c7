package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/fusegate/fusegate/pkg/webhook"

	"github.com/fusegate/fusegate/hack/rig"
)

// hook is a webhook in a process of its own.
type hook struct {
	*process
	url string
}

// webhook starts a webhook, and waits until it answers.
func (s *stage) webhook(ctx context.Context) (*hook, error) {
	dir := filepath.Join(s.plane.Dir(), "webhook")
	if err := rig.Certify(dir); err != nil {
		return nil, err
	}
	address, err := rig.Address()
	if err != nil {
		return nil, err
	}
	p, err := s.start(ctx, "--roles=webhook", "--listen", address, "--cert-dir", dir)
	if err != nil {
		return nil, err
	}
	h := &hook{process: p, url: "https://" + address + webhook.Path}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // our own, see rig.Certify
	}}
	defer client.CloseIdleConnections()
	err = s.await(ctx, func(context.Context) (bool, error) {
		resp, err := client.Post(h.url, "application/json", strings.NewReader("{}"))
		if err != nil {
			return false, nil // it does not listen yet
		}
		return true, resp.Body.Close()
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return h, nil
}

// arm installs the webhook, and waits until p has armed it.
func (s *stage) arm(ctx context.Context, p *process, h *hook) error {
	install := exec.CommandContext(ctx, s.binary, "install", "--kubeconfig", s.plane.Kubeconfig("admin"),
		"--webhook-url", strings.Replace(h.url, "127.0.0.1", rig.Host, 1), "--ca-file", filepath.Join(s.plane.Dir(), "webhook", "ca.crt"))
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("installing: %w: %s", err, out)
	}
	return s.await(ctx, func(context.Context) (bool, error) { return p.sum("fusegate_webhook_armed") == 1, nil })
}
