package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/status"
)

// TestLateProcess starts a process when everything exists already.
func TestLateProcess(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "late-leader", processOptions{})
	removeTemplate(t, c, "LatePolicy")
	apply(t, c, template("LatePolicy", "word", "string"))
	apply(t, c, constraint("LatePolicy", "one", "1"))
	apply(t, c, constraint("LatePolicy", "two", "2"))
	leader.awaitSays(t, "LatePolicy", "one: word 1", "two: word 2")

	late := run(t, "late-follower", processOptions{follower: true})
	late.awaitReady(t)
	// Ready means ingested: no waiting here.
	got := late.says(t)
	for _, want := range []string{"LatePolicy/one: word 1", "LatePolicy/two: word 2"} {
		if !slices.Contains(got, want) {
			t.Errorf("when ready it says %q, want %q among it", got, want)
		}
	}
	awaitCondition(t, c, "latepolicy", v1alpha1.ReasonCompiled, "every pod")

	if err := c.Delete(t.Context(), constraint("LatePolicy", "one", "")); err != nil {
		t.Fatal(err)
	}
	late.awaitSays(t, "LatePolicy", "two: word 2")
}

func awaitCondition(t *testing.T, c client.Client, template, reason, message string) {
	t.Helper()
	await(t, fmt.Sprintf("%s to be %s", template, reason), func() error {
		u := get(t, c, key{name: template})
		for _, cond := range status.Conditions(u) {
			if cond.Type == v1alpha1.ConditionReady && cond.Reason == reason &&
				cond.ObservedGeneration == u.GetGeneration() && strings.Contains(cond.Message, message) {
				return nil
			}
		}
		return fmt.Errorf("conditions %+v", status.Conditions(u))
	})
}

// TestReplacedTemplate deletes a template and creates another of its name at
// once, so that a process may see one update where there were two objects.
func TestReplacedTemplate(t *testing.T) {
	_, c := admin(t)
	p := run(t, "replace", processOptions{})
	removeTemplate(t, c, "ReplacedPolicy")
	apply(t, c, template("ReplacedPolicy", "old", "string"))
	apply(t, c, constraint("ReplacedPolicy", "one", "1"))
	p.awaitSays(t, "ReplacedPolicy", "one: old 1")
	before := get(t, c, key{name: "replacedpolicy"})

	for _, tc := range []struct{ word, want string }{{"new", "one: new 1"}, {"bad\"", ""}, {"fine", "one: fine 1"}} {
		if err := c.Delete(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		apply(t, c, template("ReplacedPolicy", tc.word, "string"))
		before = get(t, c, key{name: "replacedpolicy"})
		if tc.want == "" {
			// The version before was another object's, which is deleted.
			p.awaitSays(t, "ReplacedPolicy")
			awaitEntry(t, c, key{name: "replacedpolicy"}, "replace", "non-terminated")
			continue
		}
		// The CRD goes with the template if the leader sees the gap.
		awaitCondition(t, c, "replacedpolicy", v1alpha1.ReasonCompiled, "")
		apply(t, c, constraint("ReplacedPolicy", "one", "1"))
		p.awaitSays(t, "ReplacedPolicy", tc.want)
		if got, want := status.Entries(get(t, c, key{name: "replacedpolicy"}))["replace"]["templateUID"], string(before.GetUID()); got != want {
			t.Errorf("templateUID %v, want %s", got, want)
		}
	}
}

// TestDefinitionDeleted deletes a constraint CRD by hand: its constraints are
// gone, and the CRD comes back.
func TestDefinitionDeleted(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "crd-leader", processOptions{})
	removeTemplate(t, c, "DeletedKind")
	apply(t, c, template("DeletedKind", "word", "string"))
	apply(t, c, constraint("DeletedKind", "one", "1"))
	p := run(t, "crd-follower", processOptions{follower: true})
	for _, p := range []*process{leader, p} {
		p.awaitSays(t, "DeletedKind", "one: word 1")
	}
	before := definition(t, c, "deletedkind")
	if err := c.Delete(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{leader, p} {
		p.awaitSays(t, "DeletedKind")
	}
	await(t, "the CRD to come back", func() error {
		if now := definition(t, c, "deletedkind"); now.UID == before.UID || !established(now, "DeletedKind") {
			return fmt.Errorf("UID %s, was %s", now.UID, before.UID)
		}
		return nil
	})
	apply(t, c, constraint("DeletedKind", "two", "2"))
	for _, p := range []*process{leader, p} {
		p.awaitSays(t, "DeletedKind", "two: word 2")
	}
}

// TestDefinitionWithoutLabel takes the label away by which constraint CRDs are
// cached, while no leader puts it back: it must not switch policies off.
func TestDefinitionWithoutLabel(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "label-leader", processOptions{})
	removeTemplate(t, c, "BareKind")
	apply(t, c, template("BareKind", "word", "string"))
	apply(t, c, constraint("BareKind", "one", "1"))
	p := run(t, "label-follower", processOptions{follower: true})
	p.awaitSays(t, "BareKind", "one: word 1")
	leader.stop()
	crd := definition(t, c, "barekind")
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"gatekeeper.sh/constraint":null}}}`))
	if err := c.Patch(t.Context(), crd, patch); err != nil {
		t.Fatal(err)
	}
	// What comes after the label went is ingested, so that has been seen.
	apply(t, c, template("BareKind", "changed", "string"))
	p.awaitSays(t, "BareKind", "one: changed 1")
	apply(t, c, constraint("BareKind", "two", "2"))
	p.awaitSays(t, "BareKind", "one: changed 1", "two: changed 2")
	run(t, "label-leader-again", processOptions{})
	await(t, "the label to come back", func() error {
		if definition(t, c, "barekind").Labels[v1alpha1.LabelConstraintCRD] != "yes" {
			return fmt.Errorf("labels %v", definition(t, c, "barekind").Labels)
		}
		return nil
	})
}

func definition(t *testing.T, c client.Client, template string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: crdName(template)}, crd); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return crd
}

// TestOtherCase changes the case of a template's kind, which its CRD cannot
// follow.
func TestOtherCase(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "case-leader", processOptions{})
	removeTemplate(t, c, "CaseKind")
	apply(t, c, template("CaseKind", "word", "string"))
	apply(t, c, constraint("CaseKind", "one", "1"))
	leader.awaitSays(t, "CaseKind", "one: word 1")
	apply(t, c, template("CASEKind", "other", "string"))
	awaitEntry(t, c, key{name: "casekind"}, "case-leader", `"CASEKind" cannot take the place of "CaseKind"`)
	awaitCondition(t, c, "casekind", v1alpha1.ReasonCRDError, "")
	leader.awaitSays(t, "CaseKind", "one: word 1")

	late := run(t, "case-follower", processOptions{follower: true})
	late.awaitReady(t) // a recorded error must not keep it from being ready
	awaitEntry(t, c, key{name: "casekind"}, "case-follower", "cannot take the place")

	apply(t, c, template("CaseKind", "again", "string"))
	for _, p := range []*process{leader, late} {
		p.awaitSays(t, "CaseKind", "one: again 1")
	}
}

// TestSchemaChange makes a constraint invalid and valid again by its template.
func TestSchemaChange(t *testing.T) {
	_, c := admin(t)
	p := run(t, "schema", processOptions{})
	removeTemplate(t, c, "SchemaKind")
	apply(t, c, template("SchemaKind", "word", "string"))
	apply(t, c, constraint("SchemaKind", "one", "1"))
	p.awaitSays(t, "SchemaKind", "one: word 1")
	one := key{"SchemaKind", "one"}
	awaitEntry(t, c, one, "schema", "")

	apply(t, c, template("SchemaKind", "word", "integer"))
	awaitEntry(t, c, one, "schema", "stays in force")
	p.awaitSays(t, "SchemaKind", "one: word 1")
	awaitSettled(t, c, p, one)

	late := run(t, "schema-late", processOptions{follower: true})
	late.awaitReady(t)
	awaitEntry(t, c, one, "schema-late", "must be of type integer")

	apply(t, c, template("SchemaKind", "mended", "string"))
	for _, p := range []*process{p, late} {
		awaitEntry(t, c, one, p.pod, "")
		p.awaitSays(t, "SchemaKind", "one: mended 1")
	}
}

// awaitSettled touches an object again and again and fails if the process
// answers with writes: what it writes is an event, so that it would never end.
func awaitSettled(t *testing.T, c client.Client, p *process, k key) {
	t.Helper()
	before := p.writes.Load()
	const touches = 10
	for n := range touches {
		u := get(t, c, k)
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"touch":"%d"}}}`, n))
		if err := c.Patch(t.Context(), u, patch); err != nil {
			t.Fatal(err)
		}
		await(t, "the touch to be seen", func() error {
			seen := newObject(constraintGVK(k.kind))
			if err := p.ingest.cache.Get(t.Context(), client.ObjectKey{Name: k.name}, seen); err != nil {
				return err
			}
			if seen.GetAnnotations()["touch"] != fmt.Sprint(n) {
				return fmt.Errorf("annotations %v", seen.GetAnnotations())
			}
			return nil
		})
	}
	// What the change of the template led to may have been on its way: the entry,
	// the template's, its CRD and its condition.
	if wrote := p.writes.Load() - before; wrote > touches/2 {
		t.Errorf("%d writes after %d events that change nothing", wrote, touches)
	}
}

// TestRefusedAtStart starts a process when a template that has constraints does
// not compile.
func TestRefusedAtStart(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "refused-leader", processOptions{})
	removeTemplate(t, c, "RefusedKind")
	apply(t, c, template("RefusedKind", "word", "string"))
	apply(t, c, constraint("RefusedKind", "one", "1"))
	leader.awaitSays(t, "RefusedKind", "one: word 1")
	apply(t, c, template("RefusedKind", "wo\"rd", "string"))
	awaitEntry(t, c, key{name: "refusedkind"}, "refused-leader", "unexpected")
	awaitCondition(t, c, "refusedkind", v1alpha1.ReasonCompileError, "")
	leader.awaitSays(t, "RefusedKind", "one: word 1")

	late := run(t, "refused-late", processOptions{follower: true})
	late.awaitReady(t)
	late.awaitSays(t, "RefusedKind")
	awaitEntry(t, c, key{"RefusedKind", "one"}, "refused-late", `ConstraintTemplate "refusedkind" has errors`)
	apply(t, c, template("RefusedKind", "mended", "string"))
	for _, p := range []*process{leader, late} {
		p.awaitSays(t, "RefusedKind", "one: mended 1")
		awaitEntry(t, c, key{"RefusedKind", "one"}, p.pod, "")
	}
}

// hanging is a client whose writes of status wait for a channel to be closed.
type hanging struct {
	client.Client
	until <-chan struct{}
}

func (h hanging) Status() client.SubResourceWriter {
	return hangingStatus{h.Client.Status(), h.until}
}

type hangingStatus struct {
	client.SubResourceWriter
	until <-chan struct{}
}

func (h hangingStatus) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
	select {
	case <-h.until:
		return h.SubResourceWriter.Apply(ctx, o, opts...)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestHangingStatus keeps a process from writing any status: it must ingest and
// become ready all the same, and write when it can.
func TestHangingStatus(t *testing.T) {
	_, c := admin(t)
	run(t, "hang-leader", processOptions{})
	removeTemplate(t, c, "HangKind")
	apply(t, c, template("HangKind", "word", "string"))
	for n := range 10 {
		apply(t, c, constraint("HangKind", fmt.Sprintf("c%d", n), "1"))
	}
	until := make(chan struct{})
	p := run(t, "hang", processOptions{follower: true, wrap: func(c client.Client) client.Client { return hanging{c, until} }})
	p.awaitReady(t)
	if got := len(p.says(t)); got < 10 {
		t.Errorf("when ready it says %d things, want at least 10", got)
	}
	apply(t, c, template("HangKind", "changed", "string"))
	await(t, "the change", func() error {
		if got := p.says(t); !slices.Contains(got, "HangKind/c9: changed 1") {
			return fmt.Errorf("says %q", got)
		}
		return nil
	})
	if _, ok := entryErrors(t, c, key{name: "hangkind"}, "hang"); ok {
		t.Error("a status was written that should hang")
	}
	close(until)
	for n := range 10 {
		awaitEntry(t, c, key{"HangKind", fmt.Sprintf("c%d", n)}, "hang", "")
	}
	awaitEntry(t, c, key{name: "hangkind"}, "hang", "")
	await(t, "nothing to be kept", func() error {
		p.ingest.reports.mu.Lock()
		defer p.ingest.reports.mu.Unlock()
		if n := len(p.ingest.reports.latest); n > 0 {
			return fmt.Errorf("%d reports", n)
		}
		return nil
	})
}

// TestTerminatingDefinition starts a process when a CRD cannot go since one of
// its constraints has a finalizer: what is there is in force, and waited for.
func TestTerminatingDefinition(t *testing.T) {
	_, c := admin(t)
	leader := run(t, "ending-leader", processOptions{})
	removeTemplate(t, c, "EndingKind")
	apply(t, c, template("EndingKind", "word", "string"))
	held := constraint("EndingKind", "held", "1")
	held.SetFinalizers([]string{"fusegate.dev/test"})
	apply(t, c, held)
	leader.awaitSays(t, "EndingKind", "held: word 1")
	if err := c.Delete(t.Context(), definition(t, c, "endingkind")); err != nil {
		t.Fatal(err)
	}
	await(t, "the deletion", func() error {
		if definition(t, c, "endingkind").DeletionTimestamp == nil {
			return fmt.Errorf("not being deleted")
		}
		return nil
	})
	late := run(t, "ending-late", processOptions{follower: true})
	late.awaitReady(t)
	late.awaitSays(t, "EndingKind", "held: word 1")
	awaitCondition(t, c, "endingkind", v1alpha1.ReasonCRDNotEstablished, "")

	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	if err := c.Patch(t.Context(), held.DeepCopy(), patch); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	for _, p := range []*process{leader, late} {
		p.awaitSays(t, "EndingKind")
	}
}
