package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/printable"
)

// auditor is the field manager of the audit's report.
const auditor = client.FieldOwner("fusegate/audit")

// maxList bounds a list in a status, in bytes of JSON: an object has to fit in
// etcd's limit of 1.5 MiB, whatever the messages are and however many
// constraints it speaks of.
const maxList = 256 << 10

// The fields of a constraint's status that audit owns.
const (
	fieldTimestamp = "auditTimestamp"
	fieldTotal     = "totalViolations"
	fieldList      = "violations"
	fieldExempt    = "exemptViolations"
	fieldCostly    = "costlyObjects"
)

// Audit is what audit found by a constraint.
type Audit struct {
	// Uncounted has the condition written alone, without counts.
	Uncounted                    bool
	Total, Exempt                int64
	Violations, ExemptViolations []v1alpha1.Violation
	// Costly counts the objects on which it uses over half of its budget, and
	// CostlyObjects are the worst of them.
	Costly        int64
	CostlyObjects []v1alpha1.CostlyObject
	// At is when this was found, and Read when all that the constraint matches
	// was last read as a whole.
	At, Read time.Time
	// Condition is ConditionAudited; its transition time and generation are
	// filled in.
	Condition metav1.Condition
}

// fields are those of the status, but for the time.
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
	out := map[string]any{fieldTotal: a.Total, fieldExempt: apart, fieldList: nil, fieldCostly: nil}
	if len(list) > 0 {
		out[fieldList] = list
	}
	if a.Costly > 0 {
		costly, err := entriesOf(a.CostlyObjects)
		if err != nil {
			return nil, err
		}
		out[fieldCostly] = map[string]any{"total": a.Costly, "list": costly}
	}
	return printable.Fields(out), nil
}

// entriesOf are as many of the items as fit.
func entriesOf[T any](items []T) ([]any, error) {
	items, err := fitting(items)
	if err != nil {
		return nil, err
	}
	var out []any
	for i := range items {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&items[i])
		if err != nil {
			return nil, fmt.Errorf("converting an item of a status: %w", err)
		}
		out = append(out, fields)
	}
	return out, nil
}

// fitting are as many of the items, from the first on, as fit into maxList.
func fitting[T any](items []T) ([]T, error) {
	size := 0
	for i := range items {
		text, err := json.Marshal(items[i])
		if err != nil {
			return nil, fmt.Errorf("encoding an item of a status: %w", err)
		}
		if size += len(text) + 1; size > maxList {
			return items[:i], nil
		}
	}
	return items, nil
}

// Audited records what audit found by a constraint, unless it says so already
// and its time is not older by fresh than the last read. It returns whether it
// has written.
func Audited(ctx context.Context, c client.Client, constraint *unstructured.Unstructured, a Audit, fresh time.Duration) (bool, error) {
	fields, err := a.fields()
	if err != nil {
		return false, err
	}
	if !a.Uncounted {
		at, err := a.time(constraint, fields, fresh)
		if err != nil {
			return false, err
		}
		fields[fieldTimestamp] = at
	}
	return writeCondition(ctx, c, constraint, a.Condition, fields)
}

// time is what the status is to say of when this was found: as it does, if it says all
// else too and is not stale.
func (a Audit) time(constraint *unstructured.Unstructured, fields map[string]any, fresh time.Duration) (any, error) {
	condition, err := conditionEntry(constraint, a.Condition)
	if err != nil {
		return nil, err
	}
	known := share{list: "conditions", key: "type", entry: condition, fields: fields, same: sameCondition}
	if !known.storedIn(constraint) {
		return a.At.UTC().Format(time.RFC3339), nil
	}
	if Stale(constraint, a.Read, fresh) {
		return a.Read.UTC().Format(time.RFC3339), nil
	}
	before, _, _ := unstructured.NestedFieldCopy(constraint.Object, "status", fieldTimestamp)
	return before, nil
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
			Costly struct {
				Total int64                   `json:"total"`
				List  []v1alpha1.CostlyObject `json:"list"`
			} `json:"costlyObjects"`
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
		Costly: said.Status.Costly.Total, CostlyObjects: said.Status.Costly.List,
	}, nil
}

// Stale tells whether the time that audit wrote into a constraint's status is
// older by fresh, or more, than the last read.
func Stale(constraint *unstructured.Unstructured, read time.Time, fresh time.Duration) bool {
	return read.Sub(auditTime(constraint)) >= fresh
}

func auditTime(object *unstructured.Unstructured) time.Time {
	text, _, _ := unstructured.NestedString(object.Object, "status", fieldTimestamp)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Reported records the audit's report, creating the object if it is not there,
// unless it says so already but for what passes with time. Of lists that are too
// long for an object it records the beginning: the counts and conditions are of
// all.
func Reported(ctx context.Context, c client.Client, report v1alpha1.AuditReportStatus) error {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.AuditReportKind))
	object.SetName(v1alpha1.AuditReportName)
	err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), auditor, client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("creating AuditReport %s: %w", object.GetName(), err)
	}
	conditions := Conditions(object)
	for _, condition := range report.Conditions {
		condition.Message = printable.TextMax(condition.Message, maxConditionMessage)
		apimeta.SetStatusCondition(&conditions, condition)
	}
	conditions = slices.DeleteFunc(conditions, func(c metav1.Condition) bool {
		return apimeta.FindStatusCondition(report.Conditions, c.Type) == nil
	})
	report.Conditions = conditions
	var errs [4]error
	report.Kinds, errs[0] = fitting(report.Kinds)
	report.Gaps, errs[1] = fitting(report.Gaps)
	report.NotAuditable, errs[2] = fitting(report.NotAuditable)
	report.Unjudged, errs[3] = fitting(report.Unjudged)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&report)
	if err != nil {
		return fmt.Errorf("converting the audit's report: %w", err)
	}
	patch := skeleton(object)
	patch.Object["status"] = fields
	return applyStatus(ctx, c, patch, auditor)
}
