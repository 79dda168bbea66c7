// Package v1alpha1 holds the API surface of the group fusegate.dev: the names
// that other tools see and may rely on. It imports nothing of Fusegate.
package v1alpha1

// Group is the API group of Fusegate's own kinds.
const Group = "fusegate.dev"

// ConditionReady is True on a ConstraintTemplate once every pod of Fusegate has
// compiled its current generation and its constraint CRD is established.
const ConditionReady = "Ready"

// The reasons of ConditionReady.
const (
	ReasonCompiled          = "Compiled"
	ReasonCompileError      = "CompileError"
	ReasonWaitingForPods    = "WaitingForPods"
	ReasonCRDNotEstablished = "CRDNotEstablished"
	ReasonCRDError          = "CRDError"
)

// LabelPresence marks the Lease by which a process of Fusegate shows that it is
// alive; its value is "true".
const LabelPresence = "fusegate.dev/presence"

// LabelConstraintCRD is set, to "yes", on the generated CRD of each constraint
// kind. It is Gatekeeper's, since tools look for it.
const LabelConstraintCRD = "gatekeeper.sh/constraint"
