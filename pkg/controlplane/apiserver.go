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
func (c *ControlPlane) launchAPIServer(i int) error {
	_, err := c.launch(c.servers()[i], c.assets.APIServer, c.apiServerArgs(i)...)
	return err
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
func (c *ControlPlane) awaitAPIServer(ctx context.Context, i int) error {
	name := c.servers()[i]
	return c.ready(ctx, c.processes[name], func(ctx context.Context) error {
		for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
			if err := c.get(ctx, c.url(name)+path, c.identity(Admin).token); err != nil {
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

// StartAPIServer starts the API server with the index at the port it had and
// waits until it is ready; the context is used as in Start. Starting a running
// one only waits.
func (c *ControlPlane) StartAPIServer(ctx context.Context, i int) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.stopped {
		return errStopped
	}
	if p, ok := c.processes[c.servers()[i]]; !ok || !p.running() {
		if err := c.launchAPIServer(i); err != nil {
			return err
		}
	}
	return c.awaitAPIServer(ctx, i)
}

// RestartAPIServer stops and starts the API server with the index.
func (c *ControlPlane) RestartAPIServer(ctx context.Context, i int) error {
	if err := c.StopAPIServer(ctx, i); err != nil {
		return err
	}
	return c.StartAPIServer(ctx, i)
}
