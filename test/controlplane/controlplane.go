// Package controlplane starts a real Kubernetes control plane on the loopback
// interface: etcd, one or more kube-apiservers on it, more of them later and,
// on request, kube-controller-manager and kube-scheduler. Tests and the demo run on it; no
// other production code imports it, and it imports nothing of Fusegate.
//
// Authorization is Node and RBAC, as in a cluster made by kubeadm. Identities
// are static tokens (see Admin and its neighbours). Admission is what
// kube-apiserver does by default, with one exception: without a controller
// manager nobody creates the service account "default" of a namespace, so the
// ServiceAccount plugin, which would then reject every pod, is off.
//
// Nothing runs kubelets or kube-proxy; on request kwok plays kubelets (see
// ControlPlane.AddNodes), so that nodes are ready, their Leases renewed, and
// pods running that nobody runs. A webhook is reached by URL, or by a
// Service: on Linux the cluster IPs are loopback addresses (see
// ServiceCIDR), so that a process which listens on the cluster IP and port of a
// Service is that Service.
//
// It leaves no process behind. Stop ends the components; should the parent end
// without it, by os.Exit, panic or SIGKILL, the kernel kills them on Linux and
// a guard process does elsewhere. A data directory that is left behind is
// removed by the next Start. Linux and macOS are supported; elsewhere Start
// fails.
//
// API servers on one machine take each other for the same one, since they
// derive their identity from the host name. They share a lease in kube-system
// and log conflicts about it, which changes nothing else.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// startTimeout bounds Start when its context has no deadline. A loaded machine
// with two cores needs about 15 seconds.
const startTimeout = 3 * time.Minute

// Options says what to start. The zero value is one API server on etcd.
type Options struct {
	// Dir is the folder in which the data directory is made; empty means
	// os.TempDir().
	Dir string
	// Snapshot, if not empty, is a folder that ControlPlane.Snapshot wrote: etcd
	// starts from a copy of it. Certificates are always new, so that what was
	// derived from the former ones is mended by whoever made it.
	Snapshot string
	// Keep leaves the data directory, with the logs, in place after Stop.
	Keep bool
	// APIServers is the number of kube-apiservers; zero means one.
	APIServers int
	// Standby is the number of kube-apiservers beside those that Start leaves
	// to StartAPIServer. They have the indices after those of APIServers, and
	// a port, client configurations and kubeconfigs from the beginning.
	Standby int
	// ControllerManager starts kube-controller-manager with all its default
	// controllers, each with a service account of its own.
	ControllerManager bool
	// Scheduler starts kube-scheduler.
	Scheduler bool
	// Kwok starts kwok, which plays the kubelets of all nodes: see AddNodes.
	Kwok bool
	// LeaderElection has kube-controller-manager and kube-scheduler hold Leases
	// in kube-system and renew them, as they do in a cluster with more than one
	// of each. One that is started again then waits for the Lease of its
	// predecessor to expire, some 15 seconds, before it does any work; Start
	// waits for the first to work, Restart does not.
	LeaderElection bool
	// Users are identities beside the default ones.
	Users []User
	// APIServerArgs are appended to the arguments of every kube-apiserver, so
	// that they win over those of this package.
	APIServerArgs []string
	// Log receives a line per component that is ready; nil discards them.
	Log io.Writer
}

// ControlPlane is a running control plane. Its methods may be called
// concurrently. One that stops what another waits for ends that wait.
type ControlPlane struct {
	options Options
	assets  Assets
	dir     *directory
	pki     *pki
	users   []identity
	ports   map[string]*reservation // by component name

	logging sync.Mutex // held while writing to options.Log
	mu      sync.Mutex // guards what follows
	stopped bool
	nodes   int // made by AddNodes
	// processes holds what was started and not stopped, by component name.
	processes map[string]*process
}

// Start starts the components and returns once they are of use: every API
// server ready, the namespace "default" there and, with a controller manager,
// its service account "default" too. The context bounds the start and nothing
// else; without a deadline of its own it gets one of three minutes. When Start
// fails it leaves nothing behind, and the error ends with the last lines of the
// log of the component that failed.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	c, err := prepare(o)
	if err != nil {
		return nil, fmt.Errorf("preparing the control plane: %w", err)
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the control plane: %w", err), c.Stop())
	}
	return c, nil
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, startTimeout)
}

// prepare makes all files and reserves all ports, but starts nothing.
func prepare(o Options) (*ControlPlane, error) {
	o.APIServers, o.Standby = max(o.APIServers, 1), max(o.Standby, 0)
	if o.Log == nil {
		o.Log = io.Discard
	}
	assets, err := locate(o.binaries()...)
	if err != nil {
		return nil, err
	}
	users, err := identities(o.users())
	if err != nil {
		return nil, err
	}
	dir, err := newDirectory(o.Dir)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{
		options: o, assets: assets, dir: dir, users: users,
		ports: map[string]*reservation{}, processes: map[string]*process{},
	}
	if err := c.populate(); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// binaries lists what the options need. kubectl is looked up when it is used.
func (o Options) binaries() []string {
	return append([]string{etcdName, apiServerName}, o.clients()...)
}

// clients lists the components that are started after the API servers.
func (o Options) clients() []string {
	var names []string
	if o.ControllerManager {
		names = append(names, controllerManagerName)
	}
	if o.Scheduler {
		names = append(names, schedulerName)
	}
	if o.Kwok {
		names = append(names, kwokName)
	}
	return names
}

// users lists the identities beside the default ones.
func (o Options) users() []User {
	if !o.Kwok {
		return o.Users
	}
	return append(slices.Clone(o.Users), User{Name: Kubelets, Groups: []string{"system:nodes"}})
}

func (c *ControlPlane) populate() (err error) {
	for _, name := range c.components() {
		if name == kwokName {
			continue // It serves nothing.
		}
		if c.ports[name], err = reserve(); err != nil {
			return err
		}
	}
	if c.pki, err = newPKI(c.dir.file("pki")); err != nil {
		return fmt.Errorf("making certificates: %w", err)
	}
	if c.options.Snapshot != "" {
		if err := copyFolder(c.options.Snapshot, c.dir.file(etcdName)); err != nil {
			return fmt.Errorf("copying the snapshot: %w", err)
		}
	}
	if err := os.Mkdir(c.kubectlHome(), 0o700); err != nil {
		return fmt.Errorf("making a home for kubectl: %w", err)
	}
	if err := writeTokens(c.tokenFile(), c.users); err != nil {
		return fmt.Errorf("writing the token file: %w", err)
	}
	return c.writeKubeconfigs()
}

// components lists the names of all in the order of their start.
func (c *ControlPlane) components() []string {
	return slices.Concat([]string{etcdName}, c.servers(), c.options.clients())
}

// servers lists the names of the API servers, by their index, those on standby
// last.
func (c *ControlPlane) servers() []string {
	names := make([]string, c.options.APIServers+c.options.Standby)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", apiServerName, i)
	}
	return names
}

// url is the address of a component.
func (c *ControlPlane) url(component string) string {
	return fmt.Sprintf("https://127.0.0.1:%d", c.ports[component].port)
}

// start brings up etcd, then the API servers together, then their clients.
func (c *ControlPlane) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	var servers []*process
	for i := range c.options.APIServers {
		p, err := c.launchAPIServer(i)
		if err != nil {
			return err
		}
		servers = append(servers, p)
	}
	for _, p := range servers {
		if err := c.awaitAPIServer(ctx, p); err != nil {
			return err
		}
	}
	return c.startClients(ctx)
}

// launch starts a component without waiting for it. The caller holds the lock.
func (c *ControlPlane) launch(name, path string, args ...string) (*process, error) {
	p, err := launch(name, path, c.dir.path, c.Log(name), args)
	if err != nil {
		return nil, err
	}
	c.processes[name] = p
	return p, nil
}

// ready waits until the probe succeeds and tells the reader.
func (c *ControlPlane) ready(ctx context.Context, p *process, probe func(context.Context) error) error {
	if err := p.await(ctx, probe); err != nil {
		return err
	}
	c.logging.Lock()
	defer c.logging.Unlock()
	_, _ = fmt.Fprintf(c.options.Log, "%s ready after %.1f s\n", p.name, time.Since(p.started).Seconds())
	return nil
}

// Stop ends all components at once, without grace since their data goes too,
// removes the data directory and waits until both is done. A second Stop does
// nothing.
func (c *ControlPlane) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.stopped {
		return nil
	}
	c.stopped = true
	for _, p := range c.processes {
		p.kill()
	}
	for _, p := range c.processes {
		<-p.done
	}
	for _, r := range c.ports {
		r.release()
	}
	if err := c.dir.close(c.options.Keep); err != nil {
		return fmt.Errorf("removing the data directory: %w", err)
	}
	return nil
}

// Dir is the data directory.
func (c *ControlPlane) Dir() string { return c.dir.path }

// Log is the path of the log of a component: "etcd", "kube-apiserver-0" and so
// on, "kube-controller-manager", "kube-scheduler" or "kwok". It survives the
// component, but not Stop.
func (c *ControlPlane) Log(component string) string {
	return filepath.Join(c.dir.path, component+".log")
}

// Processes returns the process id of every component that was started and has
// not been stopped, by its name as for Log.
func (c *ControlPlane) Processes() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()

	pids := map[string]int{}
	if c.stopped {
		return pids
	}
	for name, p := range c.processes {
		if p.running() {
			pids[name] = p.cmd.Process.Pid
		}
	}
	return pids
}

func (c *ControlPlane) tokenFile() string { return c.dir.file("tokens.csv") }

// writePrivate writes a file that only the user may read.
func writePrivate(path string, content []byte) error {
	return os.WriteFile(path, content, 0o600)
}
