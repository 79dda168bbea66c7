package install

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/config"
)

// edition is what an object looked like; zero for one that is not there.
type edition struct {
	uid      types.UID
	resource string
}

func editionOf(o client.Object) edition { return edition{o.GetUID(), o.GetResourceVersion()} }

// basis is what, beside the constraints and what the cluster serves, a round goes
// by.
type basis struct {
	live, config edition
	namespaces   uint64
}

// settled is what the last round went by that found everything in order, or has
// put it in order. Until something of it changes there is nothing to do.
type settled struct {
	basis   basis
	catalog uint64
	at      time.Time
}

// settings are the ConfigMap's, as last read.
type settings struct {
	edition edition
	config  config.Config
	another bool
}

func (g *Guard) basis(live client.Object) basis {
	out := basis{live: editionOf(live), config: g.read.edition}
	if g.Renamed != nil {
		out.namespaces = g.Renamed()
	}
	return out
}

// unchanged tells whether a round would go by the same as the last one did. What
// the cluster serves is looked at again for that.
func (g *Guard) unchanged(now basis) bool {
	if g.Renamed == nil || now != g.settled.basis || time.Since(g.settled.at) > g.Timings.GuardCheck || g.Ready() != nil {
		return false
	}
	if time.Since(g.catalog.taken) > g.Timings.CatalogAge && g.discover() != nil {
		return false // the round says why
	}
	return g.catalog.changes == g.settled.catalog
}
