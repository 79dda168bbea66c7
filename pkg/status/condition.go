package status

import (
	"context"
	"fmt"
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/printable"
)

// maxConditionMessage is how long a message may be (metav1.Condition), in bytes.
const maxConditionMessage = 32 << 10

// conditionOwner is the field manager of a type of condition. Each type has its own:
// what a manager applies takes the place of all that it applied before, so that two
// conditions under one manager would delete each other.
func conditionOwner(conditionType string) client.FieldOwner {
	return client.FieldOwner("fusegate/condition-" + conditionType)
}

// Condition writes a condition of an object, whose type must not be empty, unless
// object, as last read, has it. The generation is the object's, and the time of the
// transition is now or, where the status has not changed, what the object says.
//
// No writer of another type is disturbed, whatever the CRD's schema makes of the list
// of conditions: see share. Condition returns whether it has written.
func Condition(ctx context.Context, c client.Client, object *unstructured.Unstructured, condition metav1.Condition) (bool, error) {
	return writeCondition(ctx, c, object, condition, nil)
}

// Message is the message of a condition as Condition writes it, for who compares.
func Message(text string) string { return printable.TextMax(text, maxConditionMessage) }

// Published records the leader's view of a ConstraintTemplate: whether its CRD was
// ever created, and a condition as Condition writes it.
func Published(ctx context.Context, c client.Client, template *unstructured.Unstructured, created bool, condition metav1.Condition) error {
	before, _, _ := unstructured.NestedBool(template.Object, "status", "created")
	_, err := writeCondition(ctx, c, template, condition, map[string]any{"created": created || before})
	return err
}

// writeCondition writes a condition, and fields of the status that always go with it.
// It returns whether it has written.
func writeCondition(ctx context.Context, c client.Client, object *unstructured.Unstructured, condition metav1.Condition, fields map[string]any) (bool, error) {
	entry, err := conditionEntry(object, condition)
	if err != nil {
		return false, err
	}
	return share{
		owner: conditionOwner(condition.Type), list: "conditions", key: "type", entry: entry, fields: fields, same: sameCondition,
	}.write(ctx, c, object)
}

// conditionEntry is the condition as it is to be in the object's status.
func conditionEntry(object *unstructured.Unstructured, condition metav1.Condition) (map[string]any, error) {
	condition.ObservedGeneration = object.GetGeneration()
	condition.Message = Message(condition.Message)
	condition.LastTransitionTime = metav1.Now()
	entry, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&condition)
	if err != nil {
		return nil, fmt.Errorf("converting a condition: %w", err)
	}
	before := entriesBy(object, "conditions", "type")[condition.Type]
	if at, _ := before["lastTransitionTime"].(string); isTime(at) && before["status"] == entry["status"] {
		entry["lastTransitionTime"] = at
	}
	return entry, nil
}

func isTime(text string) bool {
	_, err := time.Parse(time.RFC3339, text)
	return err == nil
}

// sameCondition compares all but the time of the transition, which is not worth a
// write: who rewrites it would be answered forever.
func sameCondition(a, b map[string]any) bool {
	for _, field := range []string{"status", "reason", "message", "observedGeneration"} {
		if a[field] != b[field] {
			return false
		}
	}
	return true
}

// Conditions returns a copy of an object's status.conditions. What is not a
// condition is left out.
func Conditions(object *unstructured.Unstructured) []metav1.Condition {
	list, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	var out []metav1.Condition
	for _, item := range list {
		fields, _ := item.(map[string]any)
		c := metav1.Condition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &c); err == nil && !reflect.ValueOf(c).IsZero() {
			out = append(out, c)
		}
	}
	return out
}
