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

// AuditReportStatus is the status of an AuditReport.
type AuditReportStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ClusterUID is the UID of the namespace kube-system.
	ClusterUID string `json:"clusterUID,omitempty"`
	// LastFullPass is when the kind that was read longest ago was read as a
	// whole, absent while there is one that never was.
	LastFullPass *metav1.Time `json:"lastFullPass,omitempty"`
	// LagMilliseconds is how long the latest change took from its arrival to
	// its verdict.
	LagMilliseconds int64 `json:"lagMilliseconds"`
	// TotalViolations adds up what is found by the constraints, and by those by
	// which nothing is known yet what was found before. It does not count
	// ExemptViolations.
	TotalViolations  int64 `json:"totalViolations"`
	ExemptViolations int64 `json:"exemptViolations"`
	// Faults are verdicts that could not be had.
	Faults      int64         `json:"faults"`
	Constraints int64         `json:"constraints"`
	Kinds       []AuditedKind `json:"kinds,omitempty"`
	Gaps        []AuditGap    `json:"gaps,omitempty"`
	// NotAuditable are constraints, as in kind/name, that ask for what only a
	// request has.
	NotAuditable []NotAuditable `json:"notAuditable,omitempty"`
}

// AuditedKind is what audit found of a kind.
type AuditedKind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
	// Objects is how many there are.
	Objects int64 `json:"objects"`
	// Followed tells whether changes are known at once. Kinds that change all
	// the time and that no constraint names are read at every full read only.
	Followed bool `json:"followed"`
	// Violations are those of its objects, by action, exempt ones aside.
	Violations       map[string]int64 `json:"violations,omitempty"`
	ExemptViolations int64            `json:"exemptViolations,omitempty"`
}

// AuditGap is what audit could not see.
type AuditGap struct {
	Group string `json:"group"`
	Kind  string `json:"kind,omitempty"`
	// Constraint is set where the gap is one constraint's, and Namespace and
	// Name too where the verdict on one object is missing.
	Constraint string `json:"constraint,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
	Reason     string `json:"reason"`
	Message    string `json:"message,omitempty"`
}

// NotAuditable is a constraint that audit cannot judge, or only in part.
type NotAuditable struct {
	Constraint string `json:"constraint"`
	// Extent is ExtentFull or ExtentPart.
	Extent string `json:"extent"`
	// Reads are the fields of a request that its policy reads.
	Reads []string `json:"reads,omitempty"`
	// Operations are those of its template that leave nothing to look at.
	Operations []string `json:"operations,omitempty"`
}

// How much of a constraint cannot be audited.
const (
	// ExtentFull is for what asks only for operations that leave nothing.
	ExtentFull = "Full"
	ExtentPart = "Part"
)
