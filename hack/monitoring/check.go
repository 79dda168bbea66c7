package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

type checker struct {
	data   *data
	engine *promql.Engine
	parser parser.Parser
}

func newChecker(d *data) *checker {
	p := parser.NewParser(parser.Options{})
	return &checker{data: d, parser: p, engine: promql.NewEngine(promql.EngineOpts{
		Logger: slog.New(slog.DiscardHandler), MaxSamples: 1_000_000, Timeout: time.Minute, Parser: p,
	})}
}

// eval evaluates a query as of the latest scrape.
func (c *checker) eval(ctx context.Context, query string) (promql.Vector, error) {
	q, err := c.engine.NewInstantQuery(ctx, c.data, nil, query, c.data.end)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	v, err := result.Vector()
	// The engine takes back what it returned when the query is closed.
	return slices.Clone(v), err
}

// checkPanel wants a query of the dashboard to show something.
func (c *checker) checkPanel(ctx context.Context, p panel) error {
	err := c.check(p.query)
	if err == nil {
		var v promql.Vector
		if v, err = c.eval(ctx, p.query); err == nil && len(v) == 0 {
			err = errors.New("returns no series")
		}
	}
	if err != nil {
		return fmt.Errorf("dashboard, panel %q: %s: %w", p.title, p.query, err)
	}
	return nil
}

// checkAlert wants what the alert compares to be there, with the labels that
// its texts name.
func (c *checker) checkAlert(ctx context.Context, a alert) error {
	err := c.check(a.query)
	if err == nil {
		err = c.checkCompared(ctx, a)
	}
	if err != nil {
		return fmt.Errorf("alert %s: %s: %w", a.name, a.query, err)
	}
	return nil
}

// labelInText finds the labels that a text of an alert names.
var labelInText = regexp.MustCompile(`\$labels\.(\w+)`)

// checkCompared evaluates the alert without its comparisons.
func (c *checker) checkCompared(ctx context.Context, a alert) error {
	expr, err := c.parser.ParseExpr(a.query)
	if err != nil {
		return err
	}
	sides := compared(expr)
	for _, side := range sides {
		v, err := c.eval(ctx, side.String())
		if err != nil {
			return err
		}
		if len(v) == 0 {
			return fmt.Errorf("%s returns no series", side)
		}
		for _, text := range a.annotations {
			for _, m := range labelInText.FindAllStringSubmatch(text, -1) {
				if !slices.ContainsFunc(v, func(s promql.Sample) bool { return s.Metric.Has(m[1]) }) {
					return fmt.Errorf("a text names the label %s, which %s has not", m[1], side)
				}
			}
		}
	}
	return nil
}

// compared are the parts of an alert that must be there whether it fires or not.
func compared(e parser.Expr) []parser.Expr {
	switch e := e.(type) {
	case *parser.ParenExpr:
		return compared(e.Expr)
	case *parser.BinaryExpr:
		if e.Op.IsComparisonOperator() {
			return compared(e.LHS)
		}
		if e.Op.IsSetOperator() {
			return append(compared(e.LHS), compared(e.RHS)...)
		}
	case *parser.Call:
		if e.Func.Name == "absent" {
			return compared(e.Args[0])
		}
	}
	return []parser.Expr{e}
}

// check wants every metric and every label of a query to be there.
func (c *checker) check(query string) error {
	expr, err := c.parser.ParseExpr(query)
	if err != nil {
		return err
	}
	return errors.Join(c.selectors(expr), c.grouping(expr))
}

func (c *checker) selectors(expr parser.Expr) error {
	var errs []error
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			errs = append(errs, c.selector(s))
		}
		return nil
	})
	return errors.Join(errs...)
}

func (c *checker) selector(s *parser.VectorSelector) error {
	all := c.data.named(s.Name)
	if len(all) == 0 {
		return fmt.Errorf("no process has the metric %s", s.Name)
	}
	for _, m := range s.LabelMatchers {
		if !anyHas(all, m.Name) {
			return fmt.Errorf("%s has no label %s", s.Name, m.Name)
		}
	}
	if !slices.ContainsFunc(all, func(x *series) bool { return matches(x.labels, s.LabelMatchers) }) {
		return fmt.Errorf("%s selects no series", s)
	}
	return nil
}

func anyHas(all []*series, label string) bool {
	return slices.ContainsFunc(all, func(x *series) bool { return x.labels.Has(label) })
}

// grouping wants the labels that are grouped by to be there.
func (c *checker) grouping(expr parser.Expr) error {
	var errs []error
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		a, ok := n.(*parser.AggregateExpr)
		if !ok || a.Without {
			return nil
		}
		var below []*series
		parser.Inspect(a.Expr, func(n parser.Node, _ []parser.Node) error {
			if s, ok := n.(*parser.VectorSelector); ok {
				below = append(below, c.data.named(s.Name)...)
			}
			return nil
		})
		for _, l := range a.Grouping {
			if l != model.MetricNameLabel && !anyHas(below, l) {
				errs = append(errs, fmt.Errorf("%s groups by the label %s, which is not there", a, l))
			}
		}
		return nil
	})
	return errors.Join(errs...)
}
