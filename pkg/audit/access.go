package audit

import (
	"context"
	"errors"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// rightsTimeout bounds a question about a right.
const rightsTimeout = 5 * time.Second

var errRevoked = errors.New("the right to list it has been revoked")

// watchRights has kinds that may not be read any more become gaps. Who may list
// everything is asked about that alone.
func (a *Auditor) watchRights(ctx context.Context) {
	for a.sleep(ctx, jitter(a.o.CheckRights)) {
		if a.mayList(ctx, schema.GroupVersionResource{Group: "*", Version: "*", Resource: "*"}, false) {
			continue
		}
		a.mu.Lock()
		kinds := a.sortedKinds()
		a.mu.Unlock()
		for _, k := range kinds {
			k.checkRight(ctx, k.lost)
		}
		a.namespaces.source.checkRight(ctx, a.namespaces.lost)
	}
}

// checkRight asks the API server whether the kind may be listed, and sends if it
// may not. If that cannot be found out nothing is done: the watch will end some
// time.
func (s source) checkRight(ctx context.Context, lost chan<- error) {
	if s.a.mayList(ctx, s.resource.gvr, true) {
		return
	}
	select {
	case lost <- s.failure(verbList, apierrors.NewForbidden(s.resource.gvr.GroupResource(), "", errRevoked)):
	default:
	}
}

// mayList asks whether objects may be listed; unknown is the answer if that
// cannot be found out.
func (a *Auditor) mayList(ctx context.Context, gvr schema.GroupVersionResource, unknown bool) bool {
	ctx, cancel := context.WithTimeout(ctx, rightsTimeout)
	defer cancel()
	a.metrics.requests.WithLabelValues(verbReview).Inc()
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: "list", Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource,
		},
	}}
	err := a.client.Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").Body(review).Do(ctx).Into(review)
	if err != nil {
		return unknown
	}
	return review.Status.Allowed
}
