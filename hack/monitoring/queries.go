package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// alert is a rule.
type alert struct {
	name, query         string
	labels, annotations map[string]string
}

// readAlerts reads a PrometheusRule, and has Prometheus' own checks applied.
func readAlerts(file string) ([]alert, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var object struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &object); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	groups, errs := rulefmt.Parse(object.Spec, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		return nil, fmt.Errorf("%s: %w", file, errs[0])
	}
	var out []alert
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			out = append(out, alert{r.Alert, r.Expr, r.Labels, r.Annotations})
		}
	}
	return out, nil
}

// panel is a query of the dashboard.
type panel struct{ title, query string }

// variables of Grafana in queries, and what stands for them.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$__interval", "1m")

func readPanels(file string) ([]panel, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var out []panel
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			return nil, fmt.Errorf("%s: panel %q has no query", file, p.Title)
		}
		for _, t := range p.Targets {
			out = append(out, panel{p.Title, variables.Replace(t.Expr)})
		}
	}
	return out, nil
}
