package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is that of Fusegate's own kinds.
var GroupVersion = schema.GroupVersion{Group: Group, Version: Version}

var schemeBuilder = runtime.NewSchemeBuilder(func(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Canary{}, &CanaryList{}, &AuditReport{}, &AuditReportList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
})

// AddToScheme has a scheme know the kinds of this package.
var AddToScheme = schemeBuilder.AddToScheme
