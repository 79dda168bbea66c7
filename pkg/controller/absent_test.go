package controller

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestNotInForce follows which constraints are not judged by as they are, and
// why, through errors of theirs and of their template.
func TestNotInForce(t *testing.T) {
	_, c := admin(t)
	first := run(t, "absent-leader", processOptions{})
	removeTemplate(t, c, "AbsentPolicy")
	broken := func(action string) *unstructured.Unstructured {
		u := constraint("AbsentPolicy", "one", "1")
		if err := unstructured.SetNestedField(u.Object, action, "spec", "enforcementAction"); err != nil {
			t.Fatal(err)
		}
		return u
	}
	expect := func(p *process, what, want string) {
		t.Helper()
		await(t, p.pod+" to tell: "+what, func() error {
			got := ""
			for _, x := range p.ingest.NotInForce() {
				if x.Kind == "AbsentPolicy" {
					got += fmt.Sprintf("%s %d %s", x.Name, x.Generation, x.Why)
				}
			}
			if (got == "") != (want == "") || !strings.Contains(got, want) {
				return fmt.Errorf("got %q, want %q in it", got, want)
			}
			return nil
		})
	}
	apply(t, c, template("AbsentPolicy", "word", "string"))
	apply(t, c, broken("bogus"))
	expect(first, "a constraint that was never in force", `spec.enforcementAction: "bogus" is not supported`)
	apply(t, c, broken("warn"))
	first.awaitSays(t, "AbsentPolicy", "one: word 1")
	expect(first, "nothing", "")
	apply(t, c, broken("bogus"))
	expect(first, "a constraint whose version before is", "(generation 2 stays in force)")
	apply(t, c, broken("deny"))
	expect(first, "nothing", "")

	apply(t, c, template("AbsentPolicy", "bad\"", "string"))
	expect(first, "the template has errors", "the version before stays in force")
	late := run(t, "absent-late", processOptions{follower: true})
	expect(late, "there is no version before", `not enforced: ConstraintTemplate "absentpolicy" has errors`)
	apply(t, c, template("AbsentPolicy", "fine", "string"))
	for _, p := range []*process{first, late} {
		p.awaitSays(t, "AbsentPolicy", "one: fine 1")
		expect(p, "nothing", "")
	}
	apply(t, c, broken("bogus"))
	expect(first, "an error again", "bogus")
	if err := c.Delete(t.Context(), constraint("AbsentPolicy", "one", "")); err != nil {
		t.Fatal(err)
	}
	expect(first, "nothing of what is gone", "")
}
