package status

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// auditor is the field manager of what audit writes.
const auditor = client.FieldOwner("fusegate/audit")

// maxList bounds a list of violations, in bytes of JSON: an object has to fit
// in etcd's limit of 1.5 MiB, whatever the messages are.
const maxList = 256 << 10

// The fields of a constraint's status that audit owns.
const (
	fieldTimestamp = "auditTimestamp"
	fieldTotal     = "totalViolations"
	fieldList      = "violations"
	fieldExempt    = "exemptViolations"
)

// Audit is what audit found by a constraint.
type Audit struct {
	// Uncounted has the condition written alone, without counts.
	Uncounted                    bool
	Total, Exempt                int64
	Violations, ExemptViolations []v1alpha1.Violation
	// At is when this was found, and Read when all that the constraint matches
	// was last read as a whole.
	At, Read time.Time
	// Condition is ConditionAudited; its transition time and generation are
	// filled in.
	Condition metav1.Condition
}

// fields are those of the status, but for the time and the condition.
func (a Audit) fields() (map[string]any, error) {
	if a.Uncounted {
		return nil, nil
	}
	list, err := entriesOf(a.Violations)
	if err != nil {
		return nil, err
	}
	exempt, err := entriesOf(a.ExemptViolations)
	if err != nil {
		return nil, err
	}
	apart := map[string]any{"total": a.Exempt}
	if len(exempt) > 0 {
		apart["list"] = exempt
	}
	out := map[string]any{fieldTotal: a.Total, fieldExempt: apart}
	if len(list) > 0 {
		out[fieldList] = list
	}
	return out, nil
}

// entriesOf are as many of the violations as fit.
func entriesOf(violations []v1alpha1.Violation) ([]any, error) {
	var out []any
	size := 0
	for i := range violations {
		text, err := json.Marshal(violations[i])
		if err != nil {
			return nil, fmt.Errorf("encoding a violation: %w", err)
		}
		if size += len(text) + 1; size > maxList {
			break
		}
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&violations[i])
		if err != nil {
			return nil, fmt.Errorf("converting a violation: %w", err)
		}
		out = append(out, fields)
	}
	return out, nil
}

// Audited records what audit found by a constraint, unless it says so already
// and its time is not older by fresh than the last read. It returns whether it
// has written.
func Audited(ctx context.Context, c client.Client, constraint *unstructured.Unstructured, a Audit, fresh time.Duration) (bool, error) {
	now, err := a.fields()
	if err != nil {
		return false, err
	}
	a.Condition.ObservedGeneration = constraint.GetGeneration()
	conditions := Conditions(constraint)
	changed := apimeta.SetStatusCondition(&conditions, a.Condition)
	at := a.At
	if !changed && a.Uncounted {
		return false, nil // it has no time to be old
	}
	if !changed && audited(constraint, now) {
		if at = a.Read; !Stale(constraint, at, fresh) {
			return false, nil
		}
	}
	condition, err := runtime.DefaultUnstructuredConverter.ToUnstructured(apimeta.FindStatusCondition(conditions, a.Condition.Type))
	if err != nil {
		return false, fmt.Errorf("converting a condition: %w", err)
	}
	if !a.Uncounted {
		now[fieldTimestamp] = at.UTC().Format(time.RFC3339)
	}
	patch := skeleton(constraint)
	patch.Object["status"] = withField(now, "conditions", []any{condition})
	err = applyStatus(ctx, c, patch, auditor)
	if unmergeable(err) {
		return true, overwriteAudit(ctx, c, constraint, withField(now, "conditions", conditions))
	}
	if err != nil || a.Uncounted || audited(patch, now) {
		return true, err
	}
	// A field that somebody else has written does not go by an apply without it.
	return true, overwriteAudit(ctx, c, patch, now)
}

// AuditOf returns what the status of a constraint says that audit found by it. It
// has neither Read nor a Condition.
func AuditOf(constraint *unstructured.Unstructured) (Audit, error) {
	var said struct {
		Status struct {
			Total      *int64               `json:"totalViolations"`
			Violations []v1alpha1.Violation `json:"violations"`
			Exempt     struct {
				Total int64                `json:"total"`
				List  []v1alpha1.Violation `json:"list"`
			} `json:"exemptViolations"`
		} `json:"status"`
	}
	status := map[string]any{"status": constraint.Object["status"]}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(status, &said); err != nil {
		return Audit{}, fmt.Errorf("reading what audit found by %s/%s: %w", constraint.GetKind(), constraint.GetName(), err)
	}
	if said.Status.Total == nil {
		return Audit{Uncounted: true}, nil
	}
	return Audit{
		Total: *said.Status.Total, Exempt: said.Status.Exempt.Total, At: auditTime(constraint),
		Violations: said.Status.Violations, ExemptViolations: said.Status.Exempt.List,
	}, nil
}

// Stale tells whether the time that audit wrote into a constraint's status is
// older by fresh, or more, than the last read.
func Stale(constraint *unstructured.Unstructured, read time.Time, fresh time.Duration) bool {
	return read.Sub(auditTime(constraint)) >= fresh
}

func withField(fields map[string]any, key string, value any) map[string]any {
	out := map[string]any{key: value}
	for k, v := range fields {
		out[k] = v
	}
	return out
}

// audited tells whether the object's status has these fields, and no others of
// audit's but the time.
func audited(object *unstructured.Unstructured, want map[string]any) bool {
	status, _, _ := unstructured.NestedMap(object.Object, "status")
	for _, field := range []string{fieldTotal, fieldList, fieldExempt} {
		if !reflect.DeepEqual(status[field], want[field]) {
			return false
		}
	}
	return true
}

func auditTime(object *unstructured.Unstructured) time.Time {
	text, _, _ := unstructured.NestedString(object.Object, "status", fieldTimestamp)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// overwriteAudit puts fields in the place of what is there; a list that is not
// among them is removed.
func overwriteAudit(ctx context.Context, c client.Client, object *unstructured.Unstructured, fields map[string]any) error {
	if _, counted := fields[fieldTotal]; !counted {
		return mergePatch(ctx, c, object, fields, auditor)
	}
	if _, ok := fields[fieldList]; !ok {
		fields = withField(fields, fieldList, nil)
	}
	exempt, _ := fields[fieldExempt].(map[string]any)
	if _, ok := exempt["list"]; !ok {
		fields[fieldExempt] = withField(exempt, "list", nil)
	}
	return mergePatch(ctx, c, object, fields, auditor)
}

// Reported records the audit's report, creating the object if it is not there,
// unless it says so already but for what passes with time.
func Reported(ctx context.Context, c client.Client, report v1alpha1.AuditReportStatus) error {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion(v1alpha1.Group + "/" + v1alpha1.Version)
	object.SetKind(v1alpha1.AuditReportKind)
	object.SetName(v1alpha1.AuditReportName)
	err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), auditor, client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("creating AuditReport %s: %w", object.GetName(), err)
	}
	conditions := Conditions(object)
	for _, condition := range report.Conditions {
		apimeta.SetStatusCondition(&conditions, condition)
	}
	conditions = slices.DeleteFunc(conditions, func(c metav1.Condition) bool {
		return apimeta.FindStatusCondition(report.Conditions, c.Type) == nil
	})
	report.Conditions = conditions
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&report)
	if err != nil {
		return fmt.Errorf("converting the audit's report: %w", err)
	}
	patch := skeleton(object)
	patch.Object["status"] = fields
	return applyStatus(ctx, c, patch, auditor)
}
