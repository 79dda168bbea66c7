package controlplane

import (
	"context"
	"fmt"
	"net/http"
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
