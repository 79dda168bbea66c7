package report

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/fusegate/fusegate/pkg/audit"
)

// manager is the field manager of what is written.
const manager = "fusegate/reports"

// pageSize is how many reports are read at a time.
const pageSize = 500

// store holds what is known of the reports of one format.
type store struct {
	r      *Reporter
	format Format
	api    api

	// The fields below are guarded by the Reporter's lock.

	// have are the reports that are there.
	have   map[reportKey]known
	loaded time.Time // zero until they were read
	// problem is why reports cannot be written; retryAt is when to try again.
	problem error
	retryAt time.Time
	// failed are the reports that could not be written or deleted, and omitted
	// those that are not there because there are too many.
	failed, omitted map[reportKey]bool
	// room tells that there is some for what was left out, and refillAt is
	// when to look for that at the earliest.
	room     bool
	refillAt time.Time
}

// reportKey names a report; the namespace is empty for cluster-scoped ones.
type reportKey struct{ namespace, name string }

// known is what is known of a report.
type known struct {
	digest uint64
	// kind is that of its object.
	kind schema.GroupKind
	// claimed tells that audit has named the object.
	claimed bool
}

func newStore(r *Reporter, f Format) *store {
	r.metrics.errors.WithLabelValues(string(f)) // there from the start: a rate sees no first event otherwise
	return &store{r: r, format: f, api: apis[f], have: map[reportKey]known{}, failed: map[reportKey]bool{}, omitted: map[reportKey]bool{}}
}

func (s *store) resource(namespace string) dynamic.ResourceInterface {
	gvr := schema.GroupVersionResource{Group: s.api.group, Version: s.api.version, Resource: s.api.resource}
	if namespace == "" {
		gvr.Resource = s.api.clusterResource
		return s.r.o.Client.Resource(gvr)
	}
	return s.r.o.Client.Resource(gvr).Namespace(namespace)
}

// refresh reads the reports that are there, if that is due, and tells whether
// it has, so that all objects have to be compared with them.
func (s *store) refresh(ctx context.Context) bool {
	now := s.r.o.Clock.Now()
	s.r.mu.Lock()
	due := s.loaded.IsZero() || now.Sub(s.loaded) > reload
	due = due && !now.Before(s.retryAt)
	s.r.mu.Unlock()
	if !due {
		return false
	}
	have, err := s.list(ctx)
	if ctx.Err() != nil {
		return false
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if err != nil {
		s.broken(err)
		return false
	}
	if s.problem != nil {
		s.r.o.Log.Info("reports can be written again", "format", s.format)
	}
	s.have, s.loaded, s.problem = have, now, nil
	clear(s.failed)
	clear(s.omitted)
	return true
}

// broken notes that reports cannot be read or written at all. The caller holds
// the lock.
func (s *store) broken(err error) {
	if apierrors.IsNotFound(err) {
		err = fmt.Errorf("the cluster does not serve %s/%s: install its definitions, as \"fusegate install --reports=%s\" does: %w", s.api.group, s.api.version, s.format, err)
	}
	if s.problem == nil || s.problem.Error() != err.Error() {
		s.r.o.Log.Error(err, "reports are not written; trying again", "format", s.format)
	}
	s.problem, s.loaded, s.retryAt = err, time.Time{}, s.r.o.Clock.Now().Add(retry)
	clear(s.failed)
	s.r.metrics.errors.WithLabelValues(string(s.format)).Inc()
}

// list reads all reports of Fusegate's.
func (s *store) list(ctx context.Context) (map[reportKey]known, error) {
	out := map[reportKey]known{}
	gvr := schema.GroupVersionResource{Group: s.api.group, Version: s.api.version}
	for _, gvr.Resource = range []string{s.api.resource, s.api.clusterResource} {
		options := metav1.ListOptions{LabelSelector: managedBy + "=" + source, Limit: pageSize}
		for {
			s.count("list")
			page, err := s.r.o.Client.Resource(gvr).List(ctx, options)
			if err != nil {
				return nil, fmt.Errorf("listing %s: %w", gvr.GroupResource(), err)
			}
			for i := range page.Items {
				u := &page.Items[i]
				out[reportKey{u.GetNamespace(), u.GetName()}] = known{digest: digest(u), kind: kindOf(u)}
			}
			if options.Continue = page.GetContinue(); options.Continue == "" {
				break
			}
		}
	}
	return out, nil
}

// kindOf is the kind of the object that a report is about.
func kindOf(u *unstructured.Unstructured) schema.GroupKind {
	apiVersion, _, _ := unstructured.NestedString(u.Object, "scope", "apiVersion")
	kind, _, _ := unstructured.NestedString(u.Object, "scope", "kind")
	return schema.FromAPIVersionAndKind(apiVersion, kind).GroupKind()
}

// object brings the report on an object in line with what was found.
func (s *store) object(ctx context.Context, o *audit.Object) {
	key := reportKey{o.Namespace, nameFor(o.UID)}
	violations, results := 0, []map[string]any(nil)
	for _, f := range o.Findings {
		if !f.Fault {
			violations++
		}
		results = append(results, resultOf(f, s.r.describe(ctx, f.Constraint)))
	}
	before, exists, ready := s.claim(key, o.Kind.GroupKind())
	switch {
	case !ready:
	case o.Exempt, len(results) == 0, violations == 0 && !exists:
		// A policy that fails makes no report, but a report that is there stays:
		// the object was not found to be right.
		s.remove(ctx, key)
	case !s.admit(key, exists):
	default:
		u := s.api.build(o, results)
		if now := digest(u); !exists || now != before {
			s.write(ctx, key, u, exists)
		}
	}
}

// claim says what is known of a report, and that audit has named its object.
func (s *store) claim(key reportKey, kind schema.GroupKind) (before uint64, exists, ready bool) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	k, exists := s.have[key]
	if exists {
		k.claimed, k.kind = true, kind
		s.have[key] = k
	}
	return k.digest, exists, !s.loaded.IsZero()
}

// admit tells whether there is room for a report.
func (s *store) admit(key reportKey, exists bool) bool {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if exists || len(s.have) < s.r.o.Limit {
		if !exists {
			s.have[key] = known{} // takes the place; write fills it
		}
		delete(s.omitted, key)
		return true
	}
	s.omitted[key] = true
	return false
}

// write writes a report; results that were there keep their times.
func (s *store) write(ctx context.Context, key reportKey, u *unstructured.Unstructured, exists bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var was *unstructured.Unstructured
	var err error
	if exists {
		s.count("get")
		if was, err = s.resource(key.namespace).Get(ctx, key.name, metav1.GetOptions{}); err != nil && !apierrors.IsNotFound(err) {
			s.wrote(key, known{kind: kindOf(u), claimed: true}, u, err)
			return
		}
	}
	now := known{digest: digest(u), kind: kindOf(u), claimed: true}
	stamp(u, was, s.r.o.Clock.Now())
	s.count("apply")
	_, err = s.resource(key.namespace).Apply(ctx, key.name, u, metav1.ApplyOptions{FieldManager: manager, Force: true})
	s.wrote(key, now, u, err)
}

// wrote notes what became of a write.
func (s *store) wrote(key reportKey, now known, u *unstructured.Unstructured, err error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.have[key] = now
	switch {
	case err == nil:
		s.worked(key)
	case namespaceGoes(err):
		delete(s.have, key)
		s.worked(key)
	case apierrors.IsNotFound(err):
		delete(s.have, key)
		s.broken(err)
	default:
		now.digest = 0 // like nothing that is there
		s.have[key] = now
		s.failing(key, fmt.Errorf("writing %s %s/%s: %w", u.GetKind(), key.namespace, key.name, err))
	}
}

// namespaceGoes tells whether there is no place for the report, since what it
// is about is on its way out too.
func namespaceGoes(err error) bool {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return true
	}
	status, ok := err.(apierrors.APIStatus)
	return ok && apierrors.IsNotFound(err) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces"
}

// failing notes that a report could not be written or deleted. The caller holds
// the lock.
func (s *store) failing(key reportKey, err error) {
	s.r.metrics.errors.WithLabelValues(string(s.format)).Inc()
	if s.problem == nil {
		s.r.o.Log.Error(err, "report not up to date; trying again", "format", s.format)
		s.retryAt = s.r.o.Clock.Now().Add(retry)
	}
	s.problem, s.failed[key] = err, true
}

// worked notes that a report is as it should be. The caller holds the lock.
func (s *store) worked(key reportKey) {
	if !s.failed[key] {
		return
	}
	if delete(s.failed, key); len(s.failed) == 0 {
		s.problem = nil
		s.r.o.Log.Info("reports are up to date again", "format", s.format)
	}
}

// remove deletes a report if it is there.
func (s *store) remove(ctx context.Context, key reportKey) {
	s.r.mu.Lock()
	_, exists := s.have[key]
	if s.omitted[key] {
		delete(s.omitted, key)
	}
	s.r.mu.Unlock()
	if !exists || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s.count("delete")
	err := s.resource(key.namespace).Delete(ctx, key.name, metav1.DeleteOptions{})
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if err != nil && !apierrors.IsNotFound(err) {
		s.have[key] = known{} // for prune to try again
		s.failing(key, fmt.Errorf("deleting report %s/%s: %w", key.namespace, key.name, err))
		return
	}
	delete(s.have, key)
	s.worked(key)
	s.room = true
}

// prune deletes what stands for no object that audit knows of, kind by kind as
// they have been read.
func (s *store) prune(ctx context.Context, settled func(schema.GroupKind) bool) {
	s.r.mu.Lock()
	if s.loaded.IsZero() || len(s.failed) > 0 && s.r.o.Clock.Now().Before(s.retryAt) {
		s.r.mu.Unlock()
		return
	}
	var gone []reportKey
	verdicts := map[schema.GroupKind]bool{}
	for key, k := range s.have {
		if k.claimed {
			continue
		}
		if _, asked := verdicts[k.kind]; !asked {
			verdicts[k.kind] = settled(k.kind)
		}
		if verdicts[k.kind] {
			gone = append(gone, key)
		}
	}
	s.r.mu.Unlock()
	for _, key := range gone {
		s.remove(ctx, key)
	}
}

// finish ends a round, and tells whether all objects are wanted again: there is
// room for those that were left out, or what failed is to be tried again.
func (s *store) finish() (again bool) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.metrics.reports.WithLabelValues(string(s.format)).Set(float64(len(s.have)))
	s.r.metrics.omitted.WithLabelValues(string(s.format)).Set(float64(len(s.omitted)))
	now := s.r.o.Clock.Now()
	if s.room && len(s.omitted) > 0 && !now.Before(s.refillAt) {
		s.room, s.refillAt, again = false, now.Add(retry), true
	}
	if len(s.failed) > 0 && !now.Before(s.retryAt) {
		s.retryAt, again = now.Add(retry), true
	}
	return again
}

func (s *store) count(verb string) {
	s.r.metrics.requests.WithLabelValues(string(s.format), verb).Inc()
}
