package report_test

import (
	"errors"
	"testing"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/report"
)

// needy is the template of constraints that read what else there is.
const needy = `
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata:
  name: needy
  annotations:
    metadata.gatekeeper.sh/requires-sync-data: |
      [[{"groups": [""], "versions": ["v1"], "kinds": ["Namespace"]}]]
spec:
  crd: {spec: {names: {kind: Needy}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package needy
      violation[{"msg": "alone"}] { not data.inventory.cluster.v1.Namespace.company }
`

// TestWithheld does not take an object for right whose policy waits for data.
func TestWithheld(t *testing.T) {
	w := newWorld(t)
	w.ours("wgpolicyk8s.io_policyreports.yaml", "wgpolicyk8s.io_clusterpolicyreports.yaml")
	w.engine.AwaitInventory()
	template, err := engine.ParseTemplate(parse(t, needy))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.engine.AddTemplate(t.Context(), template); err != nil {
		t.Fatal(err)
	}
	c := parse(t, "{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: Needy, metadata: {name: needy}, spec: {match: "+matching("withheld")+"}}")
	if err := w.engine.AddConstraint(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w.namespace("withheld")
	w.configMap("withheld", "bare")
	data := func(why error) {
		t.Helper()
		if !w.engine.SetInventory(w.engine.InventoryNeeds()[0], why) {
			t.Fatal("nothing has changed")
		}
	}
	data(nil)
	policyReport := report.Options{Formats: []report.Format{report.PolicyReport}}
	r := w.start(policyReport)
	const alone = "fail Needy/needy: alone (deny)"
	w.awaitLines("its data is there", policyReports, "withheld", map[string]string{"bare": alone})

	data(errors.New("no data"))
	const waits = "error Needy/needy: Inventory: no data (deny)"
	w.awaitLines("its data is gone", policyReports, "withheld", map[string]string{"bare": waits})
	before := w.reports(policyReports, "withheld")["bare"].GetUID()
	r.stop()
	w.namespace("withheld-too")
	w.constraint("too", "deny", "owner", matching("withheld-too"))
	w.start(policyReport)
	w.configMap("withheld", "other")
	seen := map[string]string{}
	for _, name := range []string{"one", "two", "three"} { // each takes a round
		w.configMap("withheld-too", name)
		seen[name] = "fail Wants/too: lacks owner (deny)"
		w.awaitLines("a round", policyReports, "withheld-too", seen)
	}
	w.awaitLines("who comes after", policyReports, "withheld", map[string]string{"bare": waits})
	data(nil)
	w.awaitLines("its data is there again", policyReports, "withheld", map[string]string{"bare": alone, "other": alone})
	if after := w.reports(policyReports, "withheld")["bare"].GetUID(); after != before {
		t.Error("who came after has deleted the report meanwhile")
	}
}
