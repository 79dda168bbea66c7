package match

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// operators are those of a metav1.LabelSelector, which are fewer than those
// that a label selector knows.
var operators = map[string]selection.Operator{
	"In":           selection.In,
	"NotIn":        selection.NotIn,
	"Exists":       selection.Exists,
	"DoesNotExist": selection.DoesNotExist,
}

// selector compiles a label selector. It is nil when it selects everything.
func (c *compiler) selector(match map[string]any, key string, root *field.Path) labels.Selector {
	at := root.Child(key)
	declared := c.object(match, key, root)
	expressions := c.list(declared, "matchExpressions", at)
	pairs := c.object(declared, "matchLabels", at)
	if !c.within(at, len(pairs)+len(expressions), "labels in matchLabels and matchExpressions", maxRequirements, fixSelector) {
		return nil
	}
	c.within(at.Child("matchExpressions"), valuesOf(expressions), "values in all expressions", maxValues, fixSelector)
	requirements := c.matchLabels(pairs, at)
	for i, entry := range expressions {
		r := c.expression(entry, at.Child("matchExpressions").Index(i))
		if r != nil {
			requirements = append(requirements, *r)
		}
	}
	if len(requirements) == 0 {
		return nil
	}
	return labels.NewSelector().Add(requirements...)
}

// valuesOf counts the values in expressions.
func valuesOf(expressions []any) (n int) {
	for _, entry := range expressions {
		e, _ := entry.(map[string]any)
		values, _ := e["values"].([]any)
		n += len(values)
	}
	return n
}

func (c *compiler) matchLabels(pairs map[string]any, parent *field.Path) []labels.Requirement {
	var out []labels.Requirement
	for _, key := range sortedKeys(pairs) {
		at := parent.Child("matchLabels").Key(key)
		value, ok := pairs[key].(string)
		if !ok {
			c.fail(at, "must be a string, is %s; put it in quotes", jsonType(pairs[key]))
			continue
		}
		if r := c.requirement(key, selection.Equals, []string{value}, at, at); r != nil {
			out = append(out, *r)
		}
	}
	return out
}

func (c *compiler) expression(entry any, at *field.Path) *labels.Requirement {
	e, ok := entry.(map[string]any)
	if !ok {
		c.fail(at, "must be an object with key, operator and values, is %s", jsonType(entry))
		return nil
	}
	before := len(c.errs)
	key, values := c.text(e, "key", at), c.texts(e, "values", at, maxValues, fixSelector)
	written := c.text(e, "operator", at)
	if len(c.errs) > before {
		return nil
	}
	operator, ok := operators[written]
	if !ok {
		c.fail(at.Child("operator"), "%.255q is not an operator, use In, NotIn, Exists or DoesNotExist", written)
		return nil
	}
	wantsValues := operator == selection.In || operator == selection.NotIn
	if wantsValues && len(values) == 0 {
		c.fail(at.Child("values"), "must hold at least one value for the operator %s", written)
		return nil
	}
	if !wantsValues && len(values) > 0 {
		c.fail(at.Child("values"), "must be left out for the operator %s", written)
		return nil
	}
	return c.requirement(key, operator, values, at.Child("key"), at.Child("values"))
}

// requirement checks the key and the values itself, for the sake of errors
// that name the field as it was written.
func (c *compiler) requirement(key string, op selection.Operator, values []string, keyAt, valuesAt *field.Path) *labels.Requirement {
	before := len(c.errs)
	if problems := content.IsLabelKey(key); len(problems) > 0 {
		c.fail(keyAt, "%.255q is not a label key: %s", key, strings.Join(problems, "; "))
	}
	for _, value := range values {
		if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
			c.fail(valuesAt, "%.255q is not a label value: %s", value, strings.Join(problems, "; "))
		}
	}
	if len(c.errs) > before {
		return nil
	}
	r, err := labels.NewRequirement(key, op, values)
	if err != nil {
		c.fail(keyAt, "%w", err)
		return nil
	}
	return r
}
