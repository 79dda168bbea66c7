package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// askTimeout bounds one question whether the API server is there.
	askTimeout = 10 * time.Second
	// askPause is between two of them.
	askPause = 2 * time.Second
)

// restConfig says how to connect to the cluster.
func (s settings) restConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = s.Kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: s.Context}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("finding the cluster: there is no kubeconfig, or it is empty; name one with --kubeconfig or in KUBECONFIG")
	case err != nil && s.Context != "":
		return nil, fmt.Errorf("finding the cluster: --context: %w; `kubectl config get-contexts` lists those there are", err)
	case err != nil && s.Kubeconfig != "":
		return nil, fmt.Errorf("finding the cluster: --kubeconfig: %w", err)
	case err != nil:
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	cfg.UserAgent = "fusegate/" + version
	// The API server's own priority and fairness bound what we may ask.
	cfg.QPS = -1
	return cfg, nil
}

// inPod tells whether the connection is that of a pod's service account.
func (s settings) inPod() bool {
	if s.Kubeconfig != "" || os.Getenv(clientcmd.RecommendedConfigPathEnvVar) != "" {
		return false
	}
	_, err := rest.InClusterConfig()
	return err == nil
}

// cluster is a connection that does not read from a cache.
type cluster struct {
	client    client.Client
	discovery *discovery.DiscoveryClient
	config    *rest.Config
}

// connect returns once the API server has answered.
func connect(ctx context.Context, s settings) (cluster, error) {
	cfg, err := s.restConfig()
	if err != nil {
		return cluster{}, err
	}
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		return cluster{}, fmt.Errorf("connecting to the cluster: %w", err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return cluster{}, fmt.Errorf("connecting to the cluster: %w", err)
	}
	if err := ask(ctx, d); err != nil {
		return cluster{}, fmt.Errorf("the API server at %s does not answer: %w; check --kubeconfig and --context", cfg.Host, err)
	}
	return cluster{client: c, discovery: d, config: cfg}, nil
}

// ask finds out whether the API server answers, to whomever.
func ask(ctx context.Context, d *discovery.DiscoveryClient) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return d.RESTClient().Get().AbsPath("/version").Do(ctx).Error()
}

// awaitAPIServer returns once the API server answers, or the context is done.
// Ending instead would leave it to whoever restarts the process to try again,
// and a kubelet takes minutes for that.
func awaitAPIServer(ctx context.Context, cfg *rest.Config, log logr.Logger) error {
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	last := ""
	return wait.PollUntilContextCancel(ctx, askPause, true, func(ctx context.Context) (bool, error) {
		err := ask(ctx, d)
		if err == nil {
			return true, nil
		}
		if last != err.Error() {
			last = err.Error()
			log.Info("waiting for the API server", "server", cfg.Host, "reason", last)
		}
		return false, nil
	})
}
