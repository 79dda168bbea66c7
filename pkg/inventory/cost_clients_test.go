package inventory

import (
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
)

// noClient and noDiscovery stand where nothing is read from a cluster.
type (
	noClient    struct{ dynamic.Interface }
	noDiscovery struct {
		discovery.ServerResourcesInterface
	}
)
