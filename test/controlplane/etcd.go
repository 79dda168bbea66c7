package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// startEtcd starts etcd and waits for it. Data that a crash of the machine
// would lose is no loss here, hence no fsync.
func (c *ControlPlane) startEtcd(ctx context.Context) error {
	p, err := c.launch(etcdName, c.assets.Etcd,
		"--name=default",
		"--data-dir="+c.dir.file("etcd"),
		"--unsafe-no-fsync",
		"--log-level=warn",
		"--listen-client-urls="+c.url(etcdName),
		"--advertise-client-urls="+c.url(etcdName),
		"--socket-reuse-port=true",
		"--cert-file="+c.pki.etcdServing.certFile,
		"--key-file="+c.pki.etcdServing.keyFile,
		"--trusted-ca-file="+c.pki.etcdCA.certFile,
		"--client-cert-auth=true",
		// There are no peers, but etcd insists on an address for them.
		"--listen-peer-urls=https://127.0.0.1:0",
		"--initial-advertise-peer-urls=https://127.0.0.1:0",
		"--initial-cluster=default=https://127.0.0.1:0",
		"--peer-cert-file="+c.pki.etcdServing.certFile,
		"--peer-key-file="+c.pki.etcdServing.keyFile,
		"--peer-trusted-ca-file="+c.pki.etcdCA.certFile,
		"--peer-client-cert-auth=true",
	)
	if err != nil {
		return err
	}
	return c.ready(ctx, p, func(ctx context.Context) error { return c.get(ctx, c.url(etcdName)+"/readyz", "") })
}

// get succeeds if a component answers 200. The token may be empty.
func (c *ControlPlane) get(ctx context.Context, url, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: c.pki.clientTLS(), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", req.URL.Path, resp.Status)
	}
	return nil
}

// Compact makes etcd forget all but the present, as API servers have it do now
// and then, so that older resource versions are gone.
func (c *ControlPlane) Compact(ctx context.Context) error {
	// "YQ==" is any key; what counts is the header of the answer.
	revision, err := c.postEtcd(ctx, "/v3/kv/range", `{"key": "YQ=="}`)
	if err != nil {
		return fmt.Errorf("asking etcd for its revision: %w", err)
	}
	if _, err := c.postEtcd(ctx, "/v3/kv/compaction", fmt.Sprintf(`{"revision": %q, "physical": true}`, revision)); err != nil {
		return fmt.Errorf("compacting etcd: %w", err)
	}
	return nil
}

// postEtcd asks etcd's JSON gateway and returns the revision of the answer.
func (c *ControlPlane) postEtcd(ctx context.Context, path, body string) (revision string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url(etcdName)+path, bytes.NewBufferString(body))
	if err != nil {
		return "", err
	}
	transport := &http.Transport{TLSClientConfig: c.pki.clientTLS(), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Header  struct{ Revision string }
		Message string
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	// Where nothing was written since, there is nothing to compact.
	if resp.StatusCode != http.StatusOK && !strings.Contains(answer.Message, "has been compacted") {
		return "", fmt.Errorf("etcd answered %s: %s", resp.Status, answer.Message)
	}
	return answer.Header.Revision, nil
}
