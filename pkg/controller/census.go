package controller

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// census finds out which processes are alive. A Lease counts as run out by the
// reader's own clock, so that clocks need not agree.
type census struct {
	reader    client.Reader
	namespace string
	now       func() time.Time
	seen      map[string]sighting  // by pod: its Lease
	missed    map[string]time.Time // by pod: since when it has none
}

type sighting struct {
	renewed metav1.MicroTime
	at      time.Time
}

func newCensus(r client.Reader, namespace string, now func() time.Time) *census {
	return &census{reader: r, namespace: namespace, now: now, seen: map[string]sighting{}, missed: map[string]time.Time{}}
}

// take returns the processes that have a Lease which has not run out, and the
// Leases that have.
func (c *census) take(ctx context.Context) (alive map[string]bool, dead []coordinationv1.Lease, err error) {
	leases := &coordinationv1.LeaseList{}
	if err := c.reader.List(ctx, leases, client.InNamespace(c.namespace), client.HasLabels{v1alpha1.LabelPresence}); err != nil {
		return nil, nil, fmt.Errorf("listing presence Leases: %w", err)
	}
	alive = map[string]bool{}
	seen := map[string]sighting{}
	for _, l := range leases.Items {
		if l.Spec.HolderIdentity == nil || l.Spec.RenewTime == nil {
			continue
		}
		pod := *l.Spec.HolderIdentity
		s, known := c.seen[pod]
		if !known || !s.renewed.Equal(l.Spec.RenewTime) {
			s = sighting{renewed: *l.Spec.RenewTime, at: c.now()}
		}
		seen[pod] = s
		if c.now().Sub(s.at) > presenceTimeout {
			dead = append(dead, l)
			continue
		}
		alive[pod] = true
	}
	c.seen = seen
	return alive, dead, nil
}

// absent returns those of the pods, all of which have left entries, that have
// had no Lease for presenceTimeout. A pod that starts may be quicker to write
// its entries than its Lease.
func (c *census) absent(pods, alive map[string]bool) []string {
	missed := map[string]time.Time{}
	var out []string
	for pod := range pods {
		if _, leased := c.seen[pod]; leased || alive[pod] {
			continue
		}
		since, known := c.missed[pod]
		if !known {
			since = c.now()
		}
		missed[pod] = since
		if c.now().Sub(since) > presenceTimeout {
			out = append(out, pod)
		}
	}
	c.missed = missed
	return out
}
