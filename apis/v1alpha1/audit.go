package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AuditReportKind is the kind of the audit's report, and AuditReportName the
// name of the only one.
const (
	AuditReportKind = "AuditReport"
	AuditReportName = "cluster"
)

// The conditions of an AuditReport.
const (
	// ConditionComplete is True if every existing object of every kind that a
	// constraint matches was reviewed by it.
	ConditionComplete = "Complete"
	// ConditionCurrent is True if every kind is watched and nothing waits to
	// be read.
	ConditionCurrent = "Current"
	// ConditionReported is there if report objects were asked for, and True if
	// every object in violation has its own.
	ConditionReported = "Reported"
)

// The reasons of ConditionReported.
const (
	// ReasonWritten is the only one with the status True.
	ReasonWritten = "Written"
	// ReasonNotWritten says that reports could not be written, for example
	// because the cluster does not know their kind; as that of a gap, that the
	// status of a constraint could not be.
	ReasonNotWritten = "NotWritten"
	// ReasonTooMany says that there are as many as may be.
	ReasonTooMany = "TooMany"
)

// Violation is an entry of status.violations of a constraint. The fields are
// Gatekeeper's (pkg/audit StatusViolation).
type Violation struct {
	Group              string   `json:"group"`
	Version            string   `json:"version"`
	Kind               string   `json:"kind"`
	Namespace          string   `json:"namespace,omitempty"`
	Name               string   `json:"name"`
	Message            string   `json:"message"`
	EnforcementAction  string   `json:"enforcementAction"`
	EnforcementActions []string `json:"enforcementActions,omitempty"`
}

// CostlyObject is an entry of status.costlyObjects.list of a constraint: an object
// on which its policy uses over half of its budget.
type CostlyObject struct {
	Group     string `json:"group"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Percent of the budget, 1000 at most.
	Percent int64 `json:"percent"`
}

// AuditReport is what audit has seen of the cluster, and what it has not. There is one,
// named cluster, which audit writes.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=ar
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name=complete,type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].status`
// +kubebuilder:printcolumn:name=current,type=string,JSONPath=`.status.conditions[?(@.type=="Current")].status`
// +kubebuilder:printcolumn:name=violations,type=integer,JSONPath=`.status.totalViolations`
// +kubebuilder:printcolumn:name=exempt,type=integer,JSONPath=`.status.exemptViolations`
// +kubebuilder:printcolumn:name=last-full-pass,type=date,JSONPath=`.status.lastFullPass`
type AuditReport struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status AuditReportStatus `json:"status,omitempty"`
}

// AuditReportList is a list of AuditReports.
//
// +kubebuilder:object:root=true
type AuditReportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AuditReport `json:"items"`
}

// AuditReportStatus is the status of an AuditReport. All fields are optional, so that
// what was stored by an earlier version stays valid.
type AuditReportStatus struct {
	// Complete is True if every existing object of every kind that a constraint matches
	// was reviewed. Current is True if every kind is followed.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ClusterUID is the UID of the namespace kube-system.
	// +optional
	ClusterUID string `json:"clusterUID,omitempty"`
	// LastFullPass is when the kind that was read longest ago was read as a whole,
	// absent while there is one that never was.
	// +optional
	LastFullPass *metav1.Time `json:"lastFullPass,omitempty"`
	// LagMilliseconds is how long the latest change took from its arrival to its
	// verdict.
	// +optional
	LagMilliseconds int64 `json:"lagMilliseconds"`
	// TotalViolations adds up what is found by the constraints, and by those by which
	// nothing is known yet what was found before. It does not count exemptViolations.
	// +optional
	TotalViolations int64 `json:"totalViolations"`
	// ExemptViolations are those of objects in exempt namespaces.
	// +optional
	ExemptViolations int64 `json:"exemptViolations"`
	// Faults are verdicts that could not be had.
	// +optional
	Faults int64 `json:"faults"`
	// Constraints is how many there are.
	// +optional
	Constraints int64 `json:"constraints"`
	// Kinds are those that constraints match; the first of them, where an object has no
	// room for all.
	// +optional
	// +listType=atomic
	Kinds []AuditedKind `json:"kinds,omitempty"`
	// Gaps are what audit could not see. At most a hundred are named.
	// +optional
	// +listType=atomic
	Gaps []AuditGap `json:"gaps,omitempty"`
	// Unjudged are objects that are there though a request for them was not judged at
	// admission, such as Pods of a Deployment when there were too many requests: the
	// latest five hundred, which were audited first; fewer, where an object has no
	// room for all.
	// +optional
	// +listType=atomic
	Unjudged []UnjudgedObject `json:"unjudged,omitempty"`
	// NotAuditable are constraints whose policy reads what only a request has; the first
	// of them, where an object has no room for all.
	// +optional
	// +listType=atomic
	NotAuditable []NotAuditable `json:"notAuditable,omitempty"`
}

// AuditedKind is what audit found of a kind.
type AuditedKind struct {
	// +optional
	Group string `json:"group"`
	// +optional
	Version string `json:"version"`
	// +optional
	Kind string `json:"kind"`
	// Objects is how many there are.
	// +optional
	Objects int64 `json:"objects"`
	// Followed tells whether changes are known at once. Kinds that change all the time
	// and that no constraint names are read at every full read only.
	// +optional
	Followed bool `json:"followed"`
	// Violations are those of its objects, by action, exempt ones aside.
	// +optional
	Violations map[string]int64 `json:"violations,omitempty"`
	// +optional
	ExemptViolations int64 `json:"exemptViolations,omitempty"`
}

// AuditGap is what audit could not see.
type AuditGap struct {
	// +optional
	Group string `json:"group"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// Constraint is set where the gap is one constraint's, and namespace and name too
	// where the verdict on one object is missing.
	// +optional
	Constraint string `json:"constraint,omitempty"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
	// +optional
	Reason string `json:"reason"`
	// +optional
	Message string `json:"message,omitempty"`
}

// UnjudgedObject is an object that a request went in for without a verdict.
type UnjudgedObject struct {
	// +optional
	Group string `json:"group"`
	// +optional
	Version string `json:"version"`
	// +optional
	Kind string `json:"kind"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// +optional
	Name string `json:"name"`
	// +optional
	UID string `json:"uid"`
	// Time is when the request was not judged.
	// +optional
	Time metav1.Time `json:"time"`
	// Violates are the constraints, as in kind/name, by which it is in violation.
	// +optional
	// +listType=atomic
	Violates []string `json:"violates,omitempty"`
}

// NotAuditable is a constraint that audit cannot judge, or only in part.
type NotAuditable struct {
	// Constraint is its kind and name, as in kind/name.
	// +optional
	Constraint string `json:"constraint"`
	// Extent tells whether all of it cannot be audited or a part.
	// +optional
	// +kubebuilder:validation:Enum=Full;Part
	Extent string `json:"extent"`
	// Reads are the fields of a request that its policy reads.
	// +optional
	Reads []string `json:"reads,omitempty"`
	// Operations are those of its template that leave nothing to look at.
	// +optional
	// +listType=atomic
	Operations []string `json:"operations,omitempty"`
}

// How much of a constraint cannot be audited.
const (
	// ExtentFull is for what asks only for operations that leave nothing.
	ExtentFull = "Full"
	ExtentPart = "Part"
)
