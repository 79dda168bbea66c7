package controlplane

import (
	"context"
	"fmt"
	"slices"
)

// startClients starts the components that are clients of the first API server,
// all together, and waits for them.
func (c *ControlPlane) startClients(ctx context.Context) error {
	if c.options.Kwok {
		if err := c.prepareKwok(ctx); err != nil {
			return err
		}
	}
	for _, name := range c.options.clients() {
		if _, err := c.launchClient(name); err != nil {
			return err
		}
	}
	for _, name := range c.options.clients() {
		if err := c.ready(ctx, c.processes[name], c.probe(name)); err != nil {
			return err
		}
	}
	return nil
}

// launchClient starts one without waiting. The caller holds the lock.
func (c *ControlPlane) launchClient(name string) (*process, error) {
	return c.launch(name, *c.assets.field(name), c.clientArgs(name)...)
}

// probe tells whether a component that is a client works.
func (c *ControlPlane) probe(name string) func(context.Context) error {
	return map[string]func(context.Context) error{
		controllerManagerName: c.probeControllerManager,
		schedulerName:         c.probeScheduler,
		kwokName:              c.probeKwok,
	}[name]
}

// Restart stops and starts a component that is a client of the API servers,
// "kube-controller-manager", "kube-scheduler" or "kwok", and waits until it
// serves; one that has ended is started. The context is used as in Start. A
// component that Options did not ask for is an error.
func (c *ControlPlane) Restart(ctx context.Context, component string) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	p, err := c.relaunch(ctx, component)
	if err != nil {
		return err
	}
	return c.ready(ctx, p, c.probe(component))
}

func (c *ControlPlane) relaunch(ctx context.Context, component string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.stopped {
		return nil, errStopped
	}
	if !slices.Contains(c.options.clients(), component) {
		return nil, fmt.Errorf("restarting %q: it is none of %q, which Options ask for", component, c.options.clients())
	}
	if p, ok := c.processes[component]; ok {
		p.stop(ctx)
	}
	return c.launchClient(component)
}

// probeControllerManager succeeds when the first thing has come of it that pods
// need: the service account which the API server gives them by default.
func (c *ControlPlane) probeControllerManager(ctx context.Context) error {
	if err := c.get(ctx, c.url(controllerManagerName)+"/healthz", ""); err != nil {
		return err
	}
	return c.get(ctx, c.url(c.servers()[0])+"/api/v1/namespaces/default/serviceaccounts/default", c.identity(Admin).token)
}

func (c *ControlPlane) probeScheduler(ctx context.Context) error {
	return c.get(ctx, c.url(schedulerName)+"/readyz", "")
}

func (c *ControlPlane) clientArgs(name string) []string {
	switch name {
	case schedulerName:
		return c.commonArgs(name, Scheduler)
	case kwokName:
		return c.kwokArgs()
	}
	return slices.Concat(c.commonArgs(name, ControllerManager), []string{
		"--use-service-account-credentials",
		"--service-account-private-key-file=" + c.pki.serviceAccountKey,
		"--root-ca-file=" + c.pki.ca.certFile,
		"--cluster-signing-cert-file=" + c.pki.ca.certFile,
		"--cluster-signing-key-file=" + c.pki.ca.keyFile,
		// The default, 20 a second, is spent for seconds on the service
		// accounts and tokens of its own controllers.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	})
}

// commonArgs are those of both. There is one of each, so that an election only
// delays the start; it is for those who want to see the Leases renewed.
func (c *ControlPlane) commonArgs(component, user string) []string {
	config := c.Kubeconfig(user)
	return []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		fmt.Sprintf("--leader-elect=%t", c.options.LeaderElection),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.ports[component].port),
		"--permit-port-sharing",
		"--tls-cert-file=" + c.pki.serving.certFile,
		"--tls-private-key-file=" + c.pki.serving.keyFile,
	}
}
