package status_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/status"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// plane is shared by all tests of the package. What they write to is defined before
// the first, since it takes an API server seconds to serve a kind.
var plane = env.Shared{Prepare: define}

func TestMain(m *testing.M) { os.Exit(env.Run(m, &plane)) }

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

func newClient(t *testing.T) client.WithWatch {
	t.Helper()
	c, err := client.NewWithWatch(plane.Get(t).Config(controlplane.Admin), client.Options{Scheme: newScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newObject creates a constraint of a kind that was just defined.
func newObject(t *testing.T, c client.Client, kind, name string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("constraints.gatekeeper.sh/v1beta1")
	u.SetKind(kind)
	u.SetName(name)
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		last = c.Create(ctx, u)
		return last == nil, nil
	})
	if err != nil {
		t.Fatal(err, last)
	}
	return u
}

func violations(n int, message string) []v1alpha1.Violation {
	var out []v1alpha1.Violation
	for i := range n {
		out = append(out, v1alpha1.Violation{Version: "v1", Kind: "Pod", Namespace: "a", Name: fmt.Sprintf("p%03d", i), Message: message, EnforcementAction: "deny"})
	}
	return out
}

// TestAudited checks what is written, and that nothing is when nothing is new.
func TestAudited(t *testing.T) {
	c := newClient(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := status.Audit{Total: 2, Exempt: 1, Violations: violations(2, "no"), ExemptViolations: violations(1, "no"), At: at, Read: at,
		Condition: metav1.Condition{Type: v1alpha1.ConditionAudited, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAudited, Message: "all"}}
	u := newObject(t, c, "Wants", "audited")
	write := func(want bool, a status.Audit) {
		t.Helper()
		wrote, err := status.Audited(t.Context(), c, u, a, time.Hour)
		if err != nil || wrote != want {
			t.Fatalf("wrote %v, %v, want %v", wrote, err, want)
		}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
			t.Fatal(err)
		}
	}
	field := func(path ...string) any {
		value, _, _ := unstructured.NestedFieldCopy(u.Object, append([]string{"status"}, path...)...)
		return value
	}
	entry := map[string]any{"group": "", "version": "v1", "kind": "Pod", "namespace": "a", "name": "p000", "message": "no", "enforcementAction": "deny"}

	write(true, a)
	want := map[string]any{"total": int64(1), "list": []any{entry}}
	if diff := cmp.Diff(want, field("exemptViolations")); diff != "" || field("totalViolations") != int64(2) || field("auditTimestamp") != "2026-01-02T03:04:05Z" {
		t.Errorf("got status %v, exempt (-want +got):\n%s", field(), diff)
	}
	a.At, a.Read = at.Add(time.Minute), at.Add(time.Minute)
	write(false, a)
	a.At, a.Read = at.Add(2*time.Hour), at.Add(2*time.Hour)
	write(true, a)
	if field("auditTimestamp") != "2026-01-02T05:04:05Z" {
		t.Errorf("after a full read: got time %v", field("auditTimestamp"))
	}
	a.Costly, a.CostlyObjects = 7, []v1alpha1.CostlyObject{{Version: "v1", Kind: "Pod", Namespace: "a", Name: "p000", Percent: 80}}
	write(true, a)
	want = map[string]any{"total": int64(7), "list": []any{map[string]any{"group": "", "version": "v1", "kind": "Pod", "namespace": "a", "name": "p000", "percent": int64(80)}}}
	said, err := status.AuditOf(u)
	if diff := cmp.Diff(want, field("costlyObjects")); diff != "" || err != nil || said.Costly != 7 || !cmp.Equal(said.CostlyObjects, a.CostlyObjects) {
		t.Errorf("got costs (-want +got):\n%s\nread as %+v, %v", diff, said, err)
	}
	write(true, status.Audit{At: at, Read: at, Condition: a.Condition})
	if field("costlyObjects") != nil || field("violations") != nil || !cmp.Equal(field("exemptViolations"), map[string]any{"total": int64(0)}) || field("totalViolations") != int64(0) {
		t.Errorf("without violations: got status %v", field())
	}

	t.Run("what another engine left", func(t *testing.T) {
		foreign := []byte(`{"status": {"totalViolations": 7, "violations": [{"name": "old"}]}}`)
		if err := c.Status().Patch(t.Context(), u, client.RawPatch(types.MergePatchType, foreign)); err != nil {
			t.Fatal(err)
		}
		write(true, status.Audit{At: at, Read: at, Condition: a.Condition})
		if field("violations") != nil || field("totalViolations") != int64(0) {
			t.Errorf("got status %v, want nothing of theirs", field())
		}
		write(false, status.Audit{At: at, Read: at, Condition: a.Condition})
	})
	t.Run("size", func(t *testing.T) {
		huge := violations(500, strings.Repeat("\x01", 256))
		write(true, status.Audit{Total: 500, Exempt: 500, Violations: huge, ExemptViolations: huge, At: at, Read: at, Condition: a.Condition})
		if n := len(field("violations").([]any)); n < 20 || n >= 500 {
			t.Errorf("%d violations are listed, want as many as fit", n)
		}
		write(false, status.Audit{Total: 500, Exempt: 500, Violations: huge, ExemptViolations: huge, At: at, Read: at, Condition: a.Condition})
	})
}
