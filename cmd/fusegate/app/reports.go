package app

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/policy"
	reporting "github.com/fusegate/fusegate/pkg/report"
)

// reportQPS and reportBurst bound the requests about reports.
const reportQPS, reportBurst = 50, 100

// The annotations of a constraint, or else of its template, that say in its
// reports how grave a violation is and what it is about.
const (
	severityAnnotation = "fusegate.dev/severity"
	categoryAnnotation = "fusegate.dev/category"
)

// newReporter returns what writes report objects, and nil where none are asked
// for. sink tells of it in the audit's report.
func (p *parts) newReporter(sink *auditSink) (audit.ObjectSink, error) {
	if len(p.settings.Reports) == 0 {
		return nil, nil
	}
	cfg := rest.CopyConfig(p.mgr.GetConfig())
	cfg.QPS, cfg.Burst, cfg.RateLimiter = reportQPS, reportBurst, nil
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("creating the client of reports: %w", err)
	}
	o := reporting.Options{
		Client: dyn, Limit: int(p.settings.ReportLimit), Describe: sink.describe,
		Metrics: metrics.Registry, Log: p.log.WithName("reports"),
	}
	for _, f := range p.settings.Reports {
		o.Formats = append(o.Formats, reporting.Format(f))
	}
	if sink.reporter, err = reporting.New(o); err != nil {
		return nil, err
	}
	return sink.reporter, nil
}

// describe reads the annotations of a constraint and its template from the
// cache.
func (s *auditSink) describe(ctx context.Context, c policy.Constraint) reporting.Description {
	if !s.served(ctx, c.Kind, false) {
		return reporting.Description{}
	}
	template := &unstructured.Unstructured{}
	template.SetAPIVersion(engine.TemplateGroup + "/v1")
	template.SetKind("ConstraintTemplate")
	// What cannot be read says nothing; it is asked again.
	_ = s.client.Get(ctx, client.ObjectKey{Name: strings.ToLower(c.Kind)}, template, client.UnsafeDisableDeepCopy)
	constraint, _ := s.read(ctx, c)
	of := func(annotation string) string {
		return cmp.Or(constraint.GetAnnotations()[annotation], template.GetAnnotations()[annotation])
	}
	return reporting.Description{Category: of(categoryAnnotation), Severity: of(severityAnnotation)}
}
