package controller

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/status"
)

// TestEntryAfterOverwrite has an entry that a merge patch has written, as is
// done while nothing can be applied to an object. What it holds beyond the next
// entry must go, and all of it when the pod is gone.
func TestEntryAfterOverwrite(t *testing.T) {
	_, c := admin(t)
	run(t, "overwrite", processOptions{})
	removeTemplate(t, c, "OverwriteKind")
	apply(t, c, template("OverwriteKind", "word", "string"))
	apply(t, c, constraint("OverwriteKind", "one", "1"))
	one := key{"OverwriteKind", "one"}
	awaitEntry(t, c, one, "overwrite", "")

	w, err := status.NewWriter(c, "other", nil)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "an entry by merge patch", func() error {
		u := get(t, c, one)
		patch := client.MergeFromWithOptions(u.DeepCopy(), client.MergeFromWithOptimisticLock{})
		list := u.Object["status"].(map[string]any)["byPod"].([]any)
		u.Object["status"].(map[string]any)["byPod"] = append(list, map[string]any{
			"id": "other", "enforced": false, "errors": []any{map[string]any{"code": "c", "message": "broken"}},
		})
		data, err := patch.Data(u)
		if err != nil {
			return err
		}
		return c.Status().Patch(t.Context(), u, client.RawPatch(types.MergePatchType, data), client.FieldOwner("fusegate-other"))
	})
	if err := w.Constraint(t.Context(), get(t, c, one), true, nil, status.Faults{}); err != nil {
		t.Fatal(err)
	}
	entry := status.Entries(get(t, c, one))["other"]
	if entry["errors"] != nil || entry["enforced"] != true {
		t.Errorf("after the error went: got %v, want none", entry)
	}
	if err := status.Forget(t.Context(), c, get(t, c, one), "other"); err != nil {
		t.Fatal(err)
	}
	entries := status.Entries(get(t, c, one))
	if entries["other"] != nil || entries["overwrite"] == nil {
		t.Errorf("after the pod was forgotten: got %v, want only the other pod's entry", entries)
	}
}

// TestStopped stops a process while it writes a status and a CRD: that it was
// cut off is no error.
func TestStopped(t *testing.T) {
	_, c := admin(t)
	removeTemplate(t, c, "StoppedKind")
	p := run(t, "stopped", processOptions{hold: true})
	apply(t, c, template("StoppedKind", "word", "string"))
	await(t, "both to be written", func() error {
		if n := p.writes.Load(); n < 2 {
			return fmt.Errorf("%d writes", n)
		}
		return nil
	})
	p.stop() // and look at its log
}
