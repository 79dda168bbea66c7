package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/timing"
)

const (
	// goodbye bounds the deletion of the Lease when the process stops.
	goodbye = 3 * time.Second
)

// Presence shows that this process is alive, by a Lease that it renews: a process
// outside the cluster has no Pod to look at. The
// leader removes the status entries of processes whose Lease has run out.
type Presence struct {
	// Timings are how often it renews. They are set before Start, if at all.
	Timings timing.Timings
	// Says returns annotations of the Lease, the same keys at each renewal. Nil stands
	// for none.
	Says func() map[string]string

	client    client.Client
	namespace string
	pod       string
	log       logr.Logger
}

// NewPresence returns the presence of the process named pod.
func NewPresence(c client.Client, namespace, pod string, log logr.Logger) *Presence {
	return &Presence{client: c, namespace: namespace, pod: pod, log: log}
}

// NeedLeaderElection is false: every process is present.
func (p *Presence) NeedLeaderElection() bool { return false }

// Start renews the Lease until ctx ends, and then deletes it.
func (p *Presence) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := p.renew(ctx); err != nil && ctx.Err() == nil {
			p.log.Error(err, "presence not renewed")
		}
	}, p.Timings.Filled().PresenceRenew)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if err := client.IgnoreNotFound(p.client.Delete(ctx, p.lease())); err != nil {
		p.log.Error(err, "presence not withdrawn; the leader will notice in time")
	}
	return nil
}

func (p *Presence) lease() *coordinationv1.Lease {
	return &coordinationv1.Lease{
		TypeMeta: metav1.TypeMeta{APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{
			Name: presenceName(p.pod), Namespace: p.namespace,
			Labels: map[string]string{v1alpha1.LabelPresence: "true"},
		},
	}
}

func presenceName(pod string) string { return "fusegate-presence-" + pod }

func (p *Presence) renew(ctx context.Context) error {
	now := metav1.NowMicro()
	seconds := int32(p.Timings.Filled().PresenceTimeout / time.Second)
	lease := p.lease()
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &p.pod, LeaseDurationSeconds: &seconds, RenewTime: &now}
	// The label is in the patch too: without it the process would look dead.
	bare := p.lease()
	bare.Labels = nil
	if p.Says != nil {
		lease.Annotations = p.Says()
	}
	err := p.client.Patch(ctx, lease.DeepCopy(), client.MergeFrom(bare))
	if apierrors.IsNotFound(err) {
		err = p.client.Create(ctx, lease)
	}
	if err != nil {
		return fmt.Errorf("renewing Lease %s/%s: %w", p.namespace, lease.Name, err)
	}
	return nil
}
