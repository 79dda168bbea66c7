// Command monitoring checks the alerts and the dashboard in manifests/monitoring
// against what processes really say at /metrics: it evaluates every query with
// Prometheus' own engine, and fails for one that names a metric or a label which
// is not there, or finds nothing.
//
// What was scraped are files named NUMBER_JOB_INSTANCE.prom; those with the same
// number were scraped at the same time. It takes two times for rates.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	manifests := flag.String("manifests", filepath.Join("..", "..", "manifests", "monitoring"), "`folder` with prometheusrule.yaml and dashboard.json")
	scrapes := flag.String("scrapes", "", "`folder` with what was scraped")
	flag.Parse()
	if err := run(context.Background(), *manifests, *scrapes); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, manifests, scrapes string) error {
	data, err := load(scrapes)
	if err != nil {
		return err
	}
	alerts, err := readAlerts(filepath.Join(manifests, "prometheusrule.yaml"))
	if err != nil {
		return err
	}
	panels, err := readPanels(filepath.Join(manifests, "dashboard.json"))
	if err != nil {
		return err
	}
	c := newChecker(data)
	var errs []error
	for _, a := range alerts {
		errs = append(errs, c.checkAlert(ctx, a))
	}
	for _, p := range panels {
		errs = append(errs, c.checkPanel(ctx, p))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%d alerts and %d queries of the dashboard find what they look for in %d series\n", len(alerts), len(panels), len(data.series))
	return nil
}
