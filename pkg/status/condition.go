package status

import (
	"context"
	"fmt"
	"reflect"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// leader is the field manager of what only the leader writes. No process can
// have it as its own, whatever it is named: see manager.
const leader = client.FieldOwner("fusegate/leader")

// Published records the leader's view of a ConstraintTemplate: whether its CRD
// was ever created, and its condition. condition.Type must not be empty; its
// transition time is taken from the object where the status has not changed.
func Published(ctx context.Context, c client.Client, template *unstructured.Unstructured, created bool, condition metav1.Condition) error {
	condition.ObservedGeneration = template.GetGeneration()
	conditions := Conditions(template)
	before, _, _ := unstructured.NestedBool(template.Object, "status", "created")
	created = created || before
	if !apimeta.SetStatusCondition(&conditions, condition) && before == created {
		return nil
	}
	ours, err := runtime.DefaultUnstructuredConverter.ToUnstructured(apimeta.FindStatusCondition(conditions, condition.Type))
	if err != nil {
		return fmt.Errorf("converting a condition: %w", err)
	}
	patch := skeleton(template)
	patch.Object["status"] = map[string]any{"created": created, "conditions": []any{ours}}
	return applyStatus(ctx, c, patch, leader)
}

// Enforced records the leader's view of a constraint. condition.Type must not
// be empty; its transition time is taken from the object where the status has
// not changed, and nothing is written if nothing has.
func Enforced(ctx context.Context, c client.Client, constraint *unstructured.Unstructured, condition metav1.Condition) error {
	condition.ObservedGeneration = constraint.GetGeneration()
	conditions := Conditions(constraint)
	if !apimeta.SetStatusCondition(&conditions, condition) {
		return nil
	}
	ours, err := runtime.DefaultUnstructuredConverter.ToUnstructured(apimeta.FindStatusCondition(conditions, condition.Type))
	if err != nil {
		return fmt.Errorf("converting a condition: %w", err)
	}
	patch := skeleton(constraint)
	patch.Object["status"] = map[string]any{"conditions": []any{ours}}
	err = applyStatus(ctx, c, patch, leader)
	if unmergeable(err) {
		return mergePatch(ctx, c, constraint, map[string]any{"conditions": conditions}, leader)
	}
	return err
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
