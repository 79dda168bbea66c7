package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestStripDefinition(t *testing.T) {
	crd := func(v apiextensionsv1.CustomResourceDefinitionVersion, managed ...metav1.ManagedFieldsEntry) *apiextensionsv1.CustomResourceDefinition {
		return &apiextensionsv1.CustomResourceDefinition{
			ObjectMeta: metav1.ObjectMeta{Name: "a.example.com", UID: "1", Generation: 2, ManagedFields: managed},
			Spec: apiextensionsv1.CustomResourceDefinitionSpec{
				Group: "example.com", Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: "A"},
				Versions: []apiextensionsv1.CustomResourceDefinitionVersion{v},
			},
			Status: apiextensionsv1.CustomResourceDefinitionStatus{
				Conditions: []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}},
			},
		}
	}
	whole := crd(apiextensionsv1.CustomResourceDefinitionVersion{
		Name: "v1", Served: true, Storage: true,
		Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
	}, metav1.ManagedFieldsEntry{Manager: "m"})
	got, err := stripDefinition(whole)
	if err != nil {
		t.Fatal(err)
	}
	want := crd(apiextensionsv1.CustomResourceDefinitionVersion{Name: "v1", Served: true, Storage: true})
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("want all that ingestion reads, and no schema, -want +got:\n%s", diff)
	}
}
