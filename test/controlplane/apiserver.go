package controlplane

import (
	"context"
	"errors"
	"fmt"
)

var errStopped = errors.New("the control plane is stopped")

// ServiceCIDR is the range of cluster IPs. On Linux all of 127.0.0.0/8 is this
// machine, so a process can listen on the cluster IP of a Service and the API
// server reaches it there without kube-proxy. Elsewhere only 127.0.0.1 is, and
// the range is merely out of the way of real networks.
const ServiceCIDR = "127.96.0.0/16"

// launchAPIServer starts one without waiting. The caller holds the lock.
func (c *ControlPlane) launchAPIServer(i int) (*process, error) {
	return c.launch(c.servers()[i], c.assets.APIServer, c.apiServerArgs(i)...)
}

func (c *ControlPlane) apiServerArgs(i int) []string {
	args := []string{
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.ports[c.servers()[i]].port),
		"--permit-port-sharing",
		// An endpoint may not be a loopback address. This one is reserved for
		// documentation (RFC 5737); nothing connects to it.
		fmt.Sprintf("--advertise-address=192.0.2.%d", i+1),
		"--service-cluster-ip-range=" + ServiceCIDR,
		"--allow-privileged=true", // as kubeadm has it
		"--authorization-mode=Node,RBAC",
		"--token-auth-file=" + c.tokenFile(),
		"--client-ca-file=" + c.pki.ca.certFile,
		"--tls-cert-file=" + c.pki.serving.certFile,
		"--tls-private-key-file=" + c.pki.serving.keyFile,
		"--etcd-servers=" + c.url(etcdName),
		"--etcd-cafile=" + c.pki.etcdCA.certFile,
		"--etcd-certfile=" + c.pki.etcdClient.certFile,
		"--etcd-keyfile=" + c.pki.etcdClient.keyFile,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + c.pki.serviceAccountKey,
		"--service-account-key-file=" + c.pki.serviceAccountPublicKey,
		"--requestheader-client-ca-file=" + c.pki.frontProxyCA.certFile,
		"--requestheader-allowed-names=" + frontProxyUser,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.pki.frontProxy.certFile,
		"--proxy-client-key-file=" + c.pki.frontProxy.keyFile,
	}
	if !c.options.ControllerManager {
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	return append(args, c.options.APIServerArgs...)
}

// awaitAPIServer waits until one is ready and has the namespace that every
// client takes for granted; it is made after the server calls itself ready.
func (c *ControlPlane) awaitAPIServer(ctx context.Context, p *process) error {
	return c.ready(ctx, p, func(ctx context.Context) error {
		for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
			if err := c.get(ctx, c.url(p.name)+path, c.identity(Admin).token); err != nil {
				return err
			}
		}
		return nil
	})
}

// StopAPIServer stops the API server with the index; its port refuses
// connections until it is started again. Requests may take five seconds to
// finish, less if the context is done. Stopping a stopped one does nothing.
func (c *ControlPlane) StopAPIServer(ctx context.Context, i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.stopped {
		return errStopped
	}
	name := c.servers()[i]
	if p, ok := c.processes[name]; ok {
		p.stop(ctx)
		delete(c.processes, name)
	}
	return nil
}

// StartAPIServer starts the API server with the index, one on standby or one
// that was stopped or has ended, at its port and waits until it is ready; the
// context is used as in Start. Starting a running one only waits.
//
// One that ends before it is ready makes the error wrap an *EndedError. When
// the context ends the wait, the API server goes on and StopAPIServer stops it.
func (c *ControlPlane) StartAPIServer(ctx context.Context, i int) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	p, err := c.runningAPIServer(i)
	if err != nil {
		return err
	}
	return c.awaitAPIServer(ctx, p)
}

// runningAPIServer launches one unless it runs.
func (c *ControlPlane) runningAPIServer(i int) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.stopped {
		return nil, errStopped
	}
	if p, ok := c.processes[c.servers()[i]]; ok && p.running() {
		return p, nil
	}
	return c.launchAPIServer(i)
}

// APIServerEnd tells how the API server with the index ended by itself. It is
// nil while it runs, before it was started and after StopAPIServer.
func (c *ControlPlane) APIServerEnd(i int) *EndedError {
	c.mu.Lock()
	defer c.mu.Unlock()

	p, ok := c.processes[c.servers()[i]]
	if !ok || p.running() {
		return nil
	}
	return p.end()
}

// RestartAPIServer stops and starts the API server with the index.
func (c *ControlPlane) RestartAPIServer(ctx context.Context, i int) error {
	if err := c.StopAPIServer(ctx, i); err != nil {
		return err
	}
	return c.StartAPIServer(ctx, i)
}
