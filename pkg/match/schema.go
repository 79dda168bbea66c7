package match

import (
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"

	"github.com/fusegate/fusegate/pkg/policy"
)

const (
	// namespacePattern admits what can occur in a namespace's name, and the
	// colon, which Gatekeeper's pattern admits too.
	namespacePattern = `^[*]?[a-z0-9:-]*[*]?$`
	// namePattern is wider than Gatekeeper's, which knows no dot and so cannot
	// name a CRD.
	namePattern = `^[*]?[^*]*[*]?$`
)

// Schema returns the OpenAPI schema of the match block, for the CRDs that
// constraints are stored under. It is structural, and it accepts every match
// block that Gatekeeper's CRDs accept and that can be compiled. The schema is
// the caller's.
func Schema() apiextensions.JSONSchemaProps {
	s := object("Selects the objects that the constraint applies to. An object must satisfy every field that is set.",
		map[string]apiextensions.JSONSchemaProps{
			"kinds":              kindsSchema(),
			"scope":              text("Cluster for cluster-scoped objects and Namespaces, Namespaced for all others. Any other value, such as *, stands for both."),
			"namespaces":         namespacesSchema("Only objects in these namespaces. A Namespace goes by its own name; other cluster-scoped objects are always selected."),
			"excludedNamespaces": namespacesSchema("No objects in these namespaces. A Namespace goes by its own name; other cluster-scoped objects are never excluded."),
			"labelSelector":      selectorSchema("Only objects whose labels it selects."),
			"namespaceSelector":  selectorSchema("Only objects in namespaces whose labels it selects. A Namespace goes by its own labels; other cluster-scoped objects are always selected."),
			"name":               nameSchema(),
			"source":             sourceSchema(),
		})
	return s
}

func kindsSchema() apiextensions.JSONSchemaProps {
	entry := object("Every one of the kinds in every one of the groups, in all versions.",
		map[string]apiextensions.JSONSchemaProps{
			"apiGroups": list("API groups; the empty string is the core group, * is any, and so is an empty list.", text(""), maxNames),
			"kinds":     list("Kinds, spelled as in an object's kind field; * is any, and so is an empty list.", text(""), maxNames),
		})
	return list("Only objects of these kinds: one of the entries must hold. An empty list stands for every kind.", entry, maxEntries)
}

func namespacesSchema(description string) apiextensions.JSONSchemaProps {
	item := text("A namespace's name, in which * at the start, at the end or at both stands for any text.")
	item.Pattern = namespacePattern
	return list(description, item, maxNamespaces)
}

func nameSchema() apiextensions.JSONSchemaProps {
	s := text("Only objects of this name, in which * at the start, at the end or at both stands for any text. With * at the end it is compared with generateName too.")
	s.Pattern = namePattern
	return s
}

func sourceSchema() apiextensions.JSONSchemaProps {
	s := text("Original for objects as they were sent, Generated for objects that an expansion made of them, All (the default) for both.")
	s.Enum = []apiextensions.JSON{string(sourceAll), string(policy.SourceGenerated), string(policy.SourceOriginal)}
	return s
}

func selectorSchema(description string) apiextensions.JSONSchemaProps {
	operator := text("How the label is compared with the values.")
	operator.Enum = []apiextensions.JSON{"In", "NotIn", "Exists", "DoesNotExist"}
	expression := object("A condition on one label.", map[string]apiextensions.JSONSchemaProps{
		"key":      text("The label's key."),
		"operator": operator,
		"values":   list("What the label is compared with: at least one value for In and NotIn, none for the others.", text(""), maxValues),
	})
	expression.Required = []string{"key", "operator"}
	value := text("")
	pairs := object("Labels and the values that they must have.", nil)
	pairs.AdditionalProperties = &apiextensions.JSONSchemaPropsOrBool{Allows: true, Schema: &value}
	s := object(description+" All its conditions must hold.", map[string]apiextensions.JSONSchemaProps{
		"matchExpressions": list("Conditions on labels.", expression, maxRequirements),
		"matchLabels":      pairs,
	})
	// One writer owns a selector as a whole: a merge of two would select what
	// neither meant.
	atomic := "atomic"
	s.XMapType = &atomic
	return s
}

func text(description string) apiextensions.JSONSchemaProps {
	return apiextensions.JSONSchemaProps{Type: "string", Description: description}
}

// list is bounded as Compile bounds it, so that the API server refuses what is
// larger even while no webhook answers.
func list(description string, item apiextensions.JSONSchemaProps, most int64) apiextensions.JSONSchemaProps {
	return apiextensions.JSONSchemaProps{
		Type:        "array",
		Description: description,
		MaxItems:    &most,
		Items:       &apiextensions.JSONSchemaPropsOrArray{Schema: &item},
	}
}

func object(description string, properties map[string]apiextensions.JSONSchemaProps) apiextensions.JSONSchemaProps {
	return apiextensions.JSONSchemaProps{Type: "object", Description: description, Properties: properties}
}
