package controller

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// wayTo is the way of requests to the webhook as a test has it.
type wayTo struct {
	intercepted, proven, pending bool
	reason, message              string
}

func (w wayTo) Intercepted(*unstructured.Unstructured) (yes bool, reason, message string) {
	return w.intercepted, w.reason, w.message
}

func (w wayTo) Proof() (proven, pending bool, reason, message string) {
	return w.proven, w.pending, w.reason, "proof"
}

// entryOf is what a pod says of the constraint's generation.
func entryOf(pod string, generation int64, errs ...any) map[string]any {
	entry := map[string]any{"id": pod, "constraintUID": "u", "observedGeneration": generation}
	if len(errs) > 0 {
		entry["errors"] = errs
	}
	return entry
}

func TestJudge(t *testing.T) {
	open := wayTo{intercepted: true, proven: true}
	enforced := map[string]any{"type": "Enforced", "status": "True", "reason": "CanaryAnswered", "message": "before", "observedGeneration": int64(2)}
	stale := map[string]any{"type": "Enforced", "status": "True", "reason": "CanaryAnswered", "message": "before", "observedGeneration": int64(1)}
	for name, tc := range map[string]struct {
		reason    string
		action    string
		entries   []any
		condition map[string]any
		way       wayTo
		alive     []string
		want      metav1.ConditionStatus
		because   string
		message   string
	}{
		"Enforced": {
			reason: "everybody knows it and every API server asks", entries: []any{entryOf("a", 2), entryOf("b", 2)}, way: open, alive: []string{"a", "b"},
			want: metav1.ConditionTrue, because: v1alpha1.ReasonCanaryAnswered, message: "proof",
		},
		"Partly": {
			reason: "what is not enforced of it is said", entries: []any{entryOf("a", 2)}, alive: []string{"a"},
			way:  wayTo{intercepted: true, proven: true, message: "not served are X"},
			want: metav1.ConditionTrue, because: v1alpha1.ReasonCanaryAnswered, message: "not served are X",
		},
		"DryRun":   {reason: "it asks for nothing", action: "dryrun", entries: []any{entryOf("a", 2)}, way: open, alive: []string{"a"}, want: metav1.ConditionFalse, because: v1alpha1.ReasonNotEnforcing},
		"Rejected": {reason: "a pod could not take it", entries: []any{entryOf("a", 2, map[string]any{"message": "bad"})}, way: open, alive: []string{"a"}, want: metav1.ConditionFalse, because: v1alpha1.ReasonRejected, message: "pod a: bad"},
		"RejectedByTheDead": {
			reason: "what a dead pod left does not count", entries: []any{entryOf("a", 2), entryOf("b", 2, map[string]any{"message": "bad"})}, way: open, alive: []string{"a"},
			want: metav1.ConditionTrue, because: v1alpha1.ReasonCanaryAnswered,
		},
		"Lagging": {reason: "a pod knows an older version", entries: []any{entryOf("a", 2), entryOf("b", 1)}, way: open, alive: []string{"a", "b"}, want: metav1.ConditionFalse, because: v1alpha1.ReasonIngesting, message: "b"},
		"LaggingAlthoughEnforced": {
			reason: "even if it was enforced before", entries: []any{entryOf("a", 2), entryOf("b", 1)}, condition: enforced, way: open, alive: []string{"a", "b"},
			want: metav1.ConditionFalse, because: v1alpha1.ReasonIngesting,
		},
		"Missing":    {reason: "a pod does not know it", entries: []any{entryOf("a", 2)}, way: open, alive: []string{"a", "b"}, want: metav1.ConditionFalse, because: v1alpha1.ReasonIngesting, message: "b"},
		"NewPod":     {reason: "a pod that has just started answers nothing yet", entries: []any{entryOf("a", 2)}, condition: enforced, way: open, alive: []string{"a", "b"}, want: metav1.ConditionTrue, because: v1alpha1.ReasonCanaryAnswered},
		"NewPodOld":  {reason: "that holds for the version that was enforced", entries: []any{entryOf("a", 2)}, condition: stale, way: open, alive: []string{"a", "b"}, want: metav1.ConditionFalse, because: v1alpha1.ReasonIngesting},
		"NobodyLeft": {reason: "if nobody knows it nobody judges by it", condition: enforced, way: open, alive: []string{"b"}, want: metav1.ConditionFalse, because: v1alpha1.ReasonIngesting},
		"NobodyAlive": {
			reason: "nor if nobody is there", entries: []any{entryOf("a", 2)}, condition: enforced, way: open,
			want: metav1.ConditionFalse, because: v1alpha1.ReasonIngesting, message: "no pod",
		},
		"Narrowed": {
			reason: "requests are not sent", entries: []any{entryOf("a", 2)}, alive: []string{"a"}, way: wayTo{reason: v1alpha1.ReasonNarrowedBy, message: "by x"},
			want: metav1.ConditionFalse, because: v1alpha1.ReasonNarrowedBy, message: "by x",
		},
		"Admitted": {
			reason: "an API server lets canaries through", entries: []any{entryOf("a", 2)}, alive: []string{"a"}, condition: enforced,
			way: wayTo{intercepted: true, reason: v1alpha1.ReasonCanaryAdmitted}, want: metav1.ConditionFalse, because: v1alpha1.ReasonCanaryAdmitted,
		},
		"Unknown": {
			reason: "an API server cannot be asked", entries: []any{entryOf("a", 2)}, alive: []string{"a"},
			way: wayTo{intercepted: true, reason: v1alpha1.ReasonCanaryUnknown}, want: metav1.ConditionUnknown, because: v1alpha1.ReasonCanaryUnknown,
		},
		"Pending": {
			reason: "new rules are on their way, the old ones have it enforced", entries: []any{entryOf("a", 2)}, alive: []string{"a"}, condition: enforced,
			way:  wayTo{intercepted: true, pending: true, reason: v1alpha1.ReasonCanaryUnknown},
			want: metav1.ConditionTrue, because: v1alpha1.ReasonCanaryAnswered, message: "before",
		},
		"PendingAnew": {
			reason: "which is not so for a new version", entries: []any{entryOf("a", 2)}, alive: []string{"a"}, condition: stale,
			way: wayTo{intercepted: true, pending: true, reason: v1alpha1.ReasonCanaryUnknown}, want: metav1.ConditionUnknown, because: v1alpha1.ReasonCanaryUnknown,
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "K8sX",
				"metadata": map[string]any{"name": "x", "uid": "u", "generation": int64(2)},
				"spec":     map[string]any{}, "status": map[string]any{"byPod": tc.entries},
			}}
			if tc.action != "" {
				u.Object["spec"] = map[string]any{"enforcementAction": tc.action}
			}
			if tc.condition != nil {
				u.Object["status"].(map[string]any)["conditions"] = []any{tc.condition}
			}
			alive := map[string]bool{}
			for _, pod := range tc.alive {
				alive[pod] = true
			}
			e := &Enforcement{webhook: tc.way}
			got := e.judge(u, alive)
			if diff := cmp.Diff([]string{string(tc.want), tc.because}, []string{string(got.Status), got.Reason}); diff != "" || !strings.Contains(got.Message, tc.message) {
				t.Errorf("%s: message %q (-want +got):\n%s", tc.reason, got.Message, diff)
			}
		})
	}
}
