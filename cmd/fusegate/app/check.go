package app

import (
	"context"

	"github.com/fusegate/fusegate/pkg/engine"
)

// checker runs beside the other parts in every process, leader or not.
type checker func(context.Context) error

// Start implements manager.Runnable.
func (c checker) Start(ctx context.Context) error { return c(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (checker) NeedLeaderElection() bool { return false }

// check has some reviews judged again by OPA's interpreter, and says where that
// came to something else. Nothing of the object is logged.
func (p *parts) check(ctx context.Context) error {
	log := p.log.WithName("check")
	p.engine.RunChecks(ctx, int(*p.settings.CheckEvery), func(d engine.Difference) {
		log.Error(d, "compiled code was wrong; the template is interpreted from now on: please report this as a bug of Fusegate",
			"template", d.Constraint.Kind, "constraint", d.Constraint.Name, "inputSHA256", d.Digest)
		p.ingest.Reconsider(d.Constraint.Kind)
	})
	return nil
}
