package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	"github.com/open-policy-agent/frameworks/constraint/pkg/core/constraints"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/match"
	"github.com/fusegate/fusegate/pkg/policy"
)

// side judges a review and returns what it found, a line for each violation.
type side interface {
	decode(body []byte) any
	judge(ctx context.Context, r *policy.Review) ([]string, error)
}

// ours is Fusegate's engine.
type ours struct{ *engine.Engine }

func newOurs(ctx context.Context, l library, create func() (*engine.Engine, error)) (*ours, error) {
	e, err := create()
	if err != nil {
		return nil, err
	}
	for _, t := range l.templates {
		if err := e.AddTemplate(ctx, t); err != nil {
			return nil, fmt.Errorf("template %s: %w", t.Name, err)
		}
	}
	for _, c := range l.constraints {
		if err := e.AddConstraint(ctx, c); err != nil {
			return nil, fmt.Errorf("constraint %s: %w", c.GetName(), err)
		}
	}
	return &ours{e}, nil
}

func (*ours) decode(body []byte) any { return decodeOurs(body) }

func (o *ours) judge(ctx context.Context, r *policy.Review) ([]string, error) {
	result := o.Review(ctx, r)
	if len(result.Faults) > 0 {
		return nil, result.Faults[0]
	}
	lines := make([]string, len(result.Violations))
	for i, v := range result.Violations {
		lines[i] = policy.Line(v.Constraint, v.Message)
	}
	return lines, nil
}

// stock is the constraint framework as it comes, with its own Rego driver. It
// matches as we do, so that only the evaluation differs.
type stock struct{ *client.Client }

func newStock(ctx context.Context, l library) (*stock, error) {
	driver, err := rego.New()
	if err != nil {
		return nil, err
	}
	c, err := client.NewClient(client.Driver(driver), client.Targets(stockTarget{}),
		client.EnforcementPoints(string(policy.PointWebhook)))
	if err != nil {
		return nil, err
	}
	for _, t := range l.templates {
		if _, err := c.AddTemplate(ctx, t.DeepCopy()); err != nil {
			return nil, fmt.Errorf("template %s in the framework's client: %w", t.Name, err)
		}
	}
	for _, u := range l.constraints {
		if _, err := c.AddConstraint(ctx, u.DeepCopy()); err != nil {
			return nil, fmt.Errorf("constraint %s in the framework's client: %w", u.GetName(), err)
		}
	}
	return &stock{c}, nil
}

func (*stock) decode(body []byte) any { return decodeKubernetes(body) }

func (s *stock) judge(ctx context.Context, r *policy.Review) ([]string, error) {
	responses, err := s.Review(ctx, r, reviews.EnforcementPoint(string(policy.PointWebhook)))
	if err != nil {
		return nil, err
	}
	results := responses.Results()
	lines := make([]string, len(results))
	for i, res := range results {
		lines[i] = policy.Line(policy.Constraint{Name: res.Constraint.GetName()}, res.Msg)
	}
	return lines, nil
}

// stockTarget hands the framework's driver the review as decoded JSON.
type stockTarget struct{}

type stockReview struct {
	review *policy.Review
	input  map[string]any
}

// MarshalJSON is what the framework's driver reads.
func (r *stockReview) MarshalJSON() ([]byte, error) { return encode(r.input), nil }

func (stockTarget) GetName() string                                     { return engine.TargetName }
func (stockTarget) MatchSchema() apiextensions.JSONSchemaProps          { return match.Schema() }
func (stockTarget) ProcessData(any) (bool, []string, any, error)        { return false, nil, nil, nil }
func (stockTarget) ValidateConstraint(*unstructured.Unstructured) error { return nil }
func (stockTarget) HandleReview(o any) (handled bool, review any, err error) {
	r, ok := o.(*policy.Review)
	if !ok {
		return false, nil, nil
	}
	return true, &stockReview{review: r, input: r.Input()}, nil
}

func (stockTarget) ToMatcher(c *unstructured.Unstructured) (constraints.Matcher, error) {
	block, _, err := unstructured.NestedMap(c.Object, "spec", "match")
	if err != nil {
		return nil, err
	}
	m, err := match.Compile(block)
	return stockMatcher{m}, err
}

type stockMatcher struct{ *match.Matcher }

func (m stockMatcher) Match(review any) (bool, error) {
	return m.Matcher.Match(review.(*stockReview).review)
}

// agree checks that the sides find the same.
func agree(ctx context.Context, subjects []subject, a, b side) error {
	for _, s := range subjects {
		left, err := a.judge(ctx, s.review())
		if err != nil {
			return fmt.Errorf("judging %q: %w", s.name, err)
		}
		right, err := b.judge(ctx, s.review())
		if err != nil {
			return fmt.Errorf("judging %q by the framework: %w", s.name, err)
		}
		slices.Sort(left)
		slices.Sort(right)
		if diff := cmp.Diff(left, right); diff != "" {
			return fmt.Errorf("the sides differ about %q (-ours +stock):\n%s", s.name, diff)
		}
		fmt.Printf("%-18s %6d bytes  %3d violations on both sides\n", s.name, len(s.json), len(left))
	}
	return nil
}
