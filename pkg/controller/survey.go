package controller

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/timing"
)

const (
	// pageSize bounds one answer of a list.
	pageSize = 500
)

// Survey tells a Readiness what exists, by live reads, until it is ready: again and
// again, since something may be deleted before its turn to be ingested comes.
type Survey struct {
	// Timings are how often it lists. They are set before Start, if at all.
	Timings timing.Timings

	live      client.Reader
	readiness *Readiness
	log       logr.Logger

	said string // the last obstacle that was logged
}

// NewSurvey returns a survey that reads with live, which must not be a cache.
func NewSurvey(live client.Reader, r *Readiness, log logr.Logger) *Survey {
	return &Survey{live: live, readiness: r, log: log}
}

// NeedLeaderElection is false: every process ingests on its own.
func (s *Survey) NeedLeaderElection() bool { return false }

// Start returns once the Readiness is ready or ctx ends.
func (s *Survey) Start(ctx context.Context) error {
	err := wait.PollUntilContextCancel(ctx, s.Timings.Filled().Survey, true, func(ctx context.Context) (bool, error) {
		keys, err := s.list(ctx)
		if ctx.Err() != nil {
			return false, nil // what is cut off is no obstacle
		}
		if err != nil {
			s.blocked(err)
			return false, nil
		}
		s.readiness.expect(keys)
		return s.readiness.Err() == nil, nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// blocked records an obstacle, and logs it once.
func (s *Survey) blocked(err error) {
	s.readiness.blocked(err)
	if s.said != err.Error() {
		s.said = err.Error()
		s.log.Error(err, "not ready: what exists cannot be listed; trying again")
	}
}

// list names the templates, and the constraints of the kinds that may still be
// waited for.
func (s *Survey) list(ctx context.Context) ([]key, error) {
	var keys []key
	var kinds []string
	err := eachLive(ctx, s.live, templateGVK(), func(u *unstructured.Unstructured) error {
		keys = append(keys, key{name: u.GetName()})
		if kind := kindOf(u); strings.EqualFold(kind, u.GetName()) && s.readiness.concerns(kind) {
			kinds = append(kinds, kind)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		err := eachLive(ctx, s.live, constraintGVK(kind), func(u *unstructured.Unstructured) error {
			keys = append(keys, key{kind: kind, name: u.GetName()})
			return nil
		})
		if notServed(err) {
			err = s.undefined(ctx, kind)
		}
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// undefined returns nil if there cannot be constraints of kind, which is not
// served: an API server that has just started serves a kind later than it
// answers.
func (s *Survey) undefined(ctx context.Context, kind string) error {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	name := crdName(strings.ToLower(kind))
	err := s.live.Get(ctx, client.ObjectKey{Name: name}, crd)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading CRD %s: %w", name, err)
	}
	if served(crd, kind) {
		return fmt.Errorf("the API server does not serve %s yet", kind)
	}
	return nil
}

// notServed tells whether err says that the API server does not know the kind.
func notServed(err error) bool { return apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err) }

// eachLive reads all objects of a cluster-scoped kind, in pages.
func eachLive(ctx context.Context, r client.Reader, gvk schema.GroupVersionKind, do func(*unstructured.Unstructured) error) error {
	page := &unstructured.UnstructuredList{}
	page.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	for {
		err := r.List(ctx, page, client.Limit(pageSize), client.Continue(page.GetContinue()))
		if err != nil {
			return fmt.Errorf("listing %s: %w", gvk.Kind, err)
		}
		for i := range page.Items {
			if err := do(&page.Items[i]); err != nil {
				return err
			}
		}
		if page.GetContinue() == "" {
			return nil
		}
	}
}
