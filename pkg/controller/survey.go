package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/engine"
)

const (
	// surveyInterval is how often what exists is listed until all of it has
	// been ingested: something may be deleted before its turn comes.
	surveyInterval = 2 * time.Second
	// pageSize bounds one answer of a list.
	pageSize = 500
)

// Survey tells a Readiness what exists, by live reads, until it is ready.
type Survey struct {
	live      client.Reader
	readiness *Readiness
	log       logr.Logger
}

// NewSurvey returns a survey that reads with live, which must not be a cache.
func NewSurvey(live client.Reader, r *Readiness, log logr.Logger) *Survey {
	return &Survey{live: live, readiness: r, log: log}
}

// NeedLeaderElection is false: every process ingests on its own.
func (s *Survey) NeedLeaderElection() bool { return false }

// Start returns once the Readiness is ready or ctx ends.
func (s *Survey) Start(ctx context.Context) error {
	err := wait.PollUntilContextCancel(ctx, surveyInterval, true, func(ctx context.Context) (bool, error) {
		keys, err := s.list(ctx)
		if err != nil {
			s.readiness.blocked(err)
			s.log.Error(err, "not ready: what exists cannot be listed")
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

func (s *Survey) list(ctx context.Context) ([]key, error) {
	var keys []key
	var kinds []string
	err := eachLive(ctx, s.live, templateGVK(), func(u *unstructured.Unstructured) error {
		keys = append(keys, key{name: u.GetName()})
		if t, err := engine.ParseTemplate(u); err == nil {
			kinds = append(kinds, t.Spec.CRD.Spec.Names.Kind)
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
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// eachLive reads all objects of a cluster-scoped kind, in pages. A kind that is
// not served has none.
func eachLive(ctx context.Context, r client.Reader, gvk schema.GroupVersionKind, do func(*unstructured.Unstructured) error) error {
	page := &unstructured.UnstructuredList{}
	page.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	for {
		err := r.List(ctx, page, client.Limit(pageSize), client.Continue(page.GetContinue()))
		if apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return nil
		}
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
