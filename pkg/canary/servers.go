package canary

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// certificateName is a name that the certificate of every API server has
// (k8s.io/kubernetes pkg/controlplane/instance.go), for those that are reached
// at an address which need not be in it.
const certificateName = "kubernetes.default.svc"

// registry is the EndpointSlice in which every API server registers itself
// (k8s.io/kubernetes pkg/controlplane/reconcilers/endpointsadapter.go).
const registry = "kubernetes"

// Cluster finds the API servers of a cluster.
type Cluster struct {
	base *rest.Config
	// live reads the endpoints; nil for no discovery.
	live client.Reader
	// fixed are URLs that the user named.
	fixed []string

	mu    sync.Mutex
	known map[string]client.Client // by host
}

// NewCluster returns the API servers named by urls. Without any they are found
// out by the endpoints of the Service default/kubernetes, if live is not nil;
// else there is the one of base.
func NewCluster(base *rest.Config, live client.Reader, urls []string) *Cluster {
	return &Cluster{base: base, live: live, fixed: urls, known: map[string]client.Client{}}
}

// Servers lists the API servers.
func (c *Cluster) Servers(ctx context.Context) ([]Server, error) {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for host := range c.known {
		if !slices.Contains(hosts, host) {
			delete(c.known, host)
		}
	}
	out := make([]Server, 0, len(hosts))
	for _, host := range hosts {
		if c.known[host] == nil {
			if c.known[host], err = c.connect(host); err != nil {
				return nil, fmt.Errorf("connecting to API server %s: %w", host, err)
			}
		}
		out = append(out, Server{Name: host, Client: c.known[host]})
	}
	return out, nil
}

func (c *Cluster) hosts(ctx context.Context) ([]string, error) {
	if len(c.fixed) > 0 {
		return c.fixed, nil
	}
	if c.live == nil {
		return []string{c.base.Host}, nil
	}
	slice := &discoveryv1.EndpointSlice{}
	if err := c.live.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: registry}, slice); err != nil {
		return nil, fmt.Errorf("reading EndpointSlice default/%s: %w", registry, err)
	}
	out := addresses(slice)
	if len(out) == 0 {
		return nil, errors.New("no endpoints in EndpointSlice default/" + registry + ": name the API servers in apiServers")
	}
	return out, nil
}

func addresses(s *discoveryv1.EndpointSlice) []string {
	var out []string
	for _, port := range s.Ports {
		if port.Port == nil || port.Name != nil && *port.Name != "https" {
			continue
		}
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				out = append(out, "https://"+net.JoinHostPort(a, strconv.Itoa(int(*port.Port))))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// connect makes a client of one API server. Canaries wait for nobody, so that
// they have a rate limit of their own.
func (c *Cluster) connect(host string) (client.Client, error) {
	cfg := rest.CopyConfig(c.base)
	if host != cfg.Host {
		cfg.Host = host
		if len(c.fixed) == 0 && cfg.ServerName == "" {
			cfg.ServerName = certificateName
		}
	}
	cfg.QPS, cfg.Burst = 50, 100
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper()})
}

// mapper knows canaries, so that no discovery is needed to ask about them.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper([]schema.GroupVersion{v1alpha1.GroupVersion})
	m.Add(v1alpha1.GroupVersion.WithKind(v1alpha1.CanaryKind), meta.RESTScopeRoot)
	return m
}
