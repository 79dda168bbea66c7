package app

import (
	"fmt"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fusegate/fusegate/pkg/inventory"
)

const (
	// inventoryQPS and inventoryBurst bound the inventory's requests, of which
	// a watch is one.
	inventoryQPS, inventoryBurst = 20, 50
	// gatekeeperNamespace is where Gatekeeper's Config is.
	gatekeeperNamespace = "gatekeeper-system"
)

// newInventory makes what keeps the objects that policies read; every process
// has one.
func (p *parts) newInventory() (*inventory.Inventory, error) {
	cfg := rest.CopyConfig(p.mgr.GetConfig())
	cfg.QPS, cfg.Burst, cfg.RateLimiter = inventoryQPS, inventoryBurst, nil
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("creating the client of the inventory: %w", err)
	}
	p.engine.AwaitInventory()
	return inventory.New(inventory.Options{
		Client: dyn, Discovery: p.catalog, Engine: p.engine, Secrets: p.settings.InventorySecrets,
		ConfigNamespaces: []string{p.settings.Namespace, gatekeeperNamespace},
		Ready:            p.readiness.Err, Changed: func(template string) { p.ingest.Refresh(template) },
		Timings: p.timings, Metrics: metrics.Registry, Log: p.log.WithName("inventory"),
	})
}
