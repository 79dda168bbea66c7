package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/pkg/timing"
)

const noSuchTemplate = "not enforced: there is no ConstraintTemplate"

// TestOrphan deletes a template whose CRD stays, as --cascade=orphan would: its
// constraints must not go on saying that they are enforced.
func TestOrphan(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "orphan-leader", processOptions{})
	for _, kind := range []string{"OrphanKind", "OrphanOther"} {
		removeTemplate(t, c, kind)
		apply(t, c, template(kind, "word", "string"))
	}
	one := key{"OrphanKind", "one"}
	apply(t, c, constraint("OrphanKind", "one", "1"))
	p := run(t, "orphan-follower", processOptions{follower: true})
	p.awaitSays(t, "OrphanKind", "one: word 1")
	awaitEntry(t, c, key{name: "orphanother"}, "orphan-leader", "")
	awaitEntry(t, c, one, "orphan-leader", "")
	leader.stop()
	disown(t, c, "orphankind")
	if err := c.Delete(t.Context(), template("OrphanKind", "", "string")); err != nil {
		t.Fatal(err)
	}
	awaitEntry(t, c, one, "orphan-follower", noSuchTemplate)
	if status.Entries(get(t, c, one))["orphan-follower"]["enforced"] != false {
		t.Error("it says that it is enforced")
	}
	p.awaitSays(t, "OrphanKind")
	apply(t, c, constraint("OrphanKind", "two", "2"))
	awaitEntry(t, c, key{"OrphanKind", "two"}, "orphan-follower", noSuchTemplate)

	sweepAll(t, c, "orphans")
	if entry := status.Entries(get(t, c, one))["orphan-leader"]; entry != nil {
		t.Errorf("the entry %v is left of a pod that is gone", entry)
	}
	apply(t, c, template("OrphanKind", "bad\"", "string"))
	awaitEntry(t, c, one, "orphan-follower", "has errors")
	apply(t, c, template("OrphanKind", "again", "string"))
	awaitEntry(t, c, one, "orphan-follower", "")
	p.awaitSays(t, "OrphanKind", "one: again 1", "two: again 2")
}

// disown takes away the owner of a template's CRD.
func disown(t *testing.T, c client.Client, template string) {
	t.Helper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`))
	if err := c.Patch(t.Context(), definition(t, c, template), patch); err != nil {
		t.Fatal(err)
	}
}

// sweepAll removes the entries of all processes, none of which has a Lease in
// this namespace; those that live write theirs again.
func sweepAll(t *testing.T, c client.Client, leases string) {
	t.Helper()
	at := &clock{time.Unix(1e9, 0)}
	j := NewJanitor(c, c, namespace(t, c, leases), newCensus(at.now), logr.Discard())
	for range 2 {
		if err := j.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		at.at = at.at.Add(timing.Production().PresenceTimeout + time.Second)
	}
}

// TestHeldConstraint deletes a template of which a constraint cannot go: it has
// a finalizer, and nothing is enforced by it any more.
func TestHeldConstraint(t *testing.T) {
	_, c := admin(t)
	p := run(t, "held", processOptions{})
	removeTemplate(t, c, "HeldKind")
	apply(t, c, template("HeldKind", "word", "string"))
	held := constraint("HeldKind", "one", "1")
	held.SetFinalizers([]string{"fusegate.dev/test"})
	apply(t, c, held)
	p.awaitSays(t, "HeldKind", "one: word 1")
	if err := c.Delete(t.Context(), template("HeldKind", "", "string")); err != nil {
		t.Fatal(err)
	}
	awaitEntry(t, c, key{"HeldKind", "one"}, "held", noSuchTemplate)
	// What cannot be written any more is not tried for ever.
	ghost := key{"HeldKind", "ghost"}
	p.ingest.reports.put(ghost, report{object: constraint("HeldKind", "ghost", "1")})
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	if err := c.Patch(t.Context(), held, patch); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing to be kept", func() error {
		p.ingest.reports.mu.Lock()
		defer p.ingest.reports.mu.Unlock()
		if n := len(p.ingest.reports.latest); n > 0 {
			return fmt.Errorf("%d reports", n)
		}
		return nil
	})
}

// TestStrangeDefinition has a CRD of the constraints' group that is not made
// for constraints: there is nothing to watch, and nothing waits for it.
func TestStrangeDefinition(t *testing.T) {
	_, c := admin(t)
	p := run(t, "strange", processOptions{})
	crd := &apiextensionsv1.CustomResourceDefinition{}
	crd.Name = crdName("strange")
	crd.Labels = map[string]string{v1alpha1.LabelConstraintCRD: "yes"}
	anything := true
	crd.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
		Group: constraintGVK("").Group, Scope: apiextensionsv1.ClusterScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: "Strange", ListKind: "StrangeList", Plural: "strange", Singular: "strange"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
			Name: "v7", Served: true, Storage: true,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &anything}},
		}},
	}
	removeTemplate(t, c, "Strange")
	if err := c.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	await(t, "it to be established", func() error {
		if now := definition(t, c, "strange"); !served(now, "Strange") {
			return fmt.Errorf("conditions %v", now.Status.Conditions)
		}
		return nil
	})
	// What comes later is ingested, so that the CRD has been seen.
	removeTemplate(t, c, "StrangeLater")
	apply(t, c, template("StrangeLater", "word", "string"))
	awaitEntry(t, c, key{name: "strangelater"}, "strange", "")
	if err := p.ingest.follow(t.Context(), "strange", definition(t, c, "strange")); err != nil {
		t.Errorf("got %v, want it left alone", err)
	}
}
