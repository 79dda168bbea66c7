// Package v1alpha1 holds the API surface of the group fusegate.dev: the names
// that other tools see and may rely on. It imports nothing of Fusegate. The CRDs
// in manifests/crds are generated from its types, but for those of Gatekeeper's groups.
//
// +kubebuilder:object:generate=true
// +groupName=fusegate.dev
package v1alpha1

// Group is the API group of Fusegate's own kinds, and Version their version.
const (
	Group   = "fusegate.dev"
	Version = "v1alpha1"
)

// ConditionReady is True on a ConstraintTemplate once every pod of Fusegate has
// compiled its current generation and its constraint CRD is established.
const ConditionReady = "Ready"

// The reasons of ConditionReady.
const (
	ReasonCompiled = "Compiled"
	// ReasonInterpreted templates judge, but by OPA's interpreter: what they say
	// could not be compiled to native code, or that was found to be wrong.
	ReasonInterpreted       = "Interpreted"
	ReasonCompileError      = "CompileError"
	ReasonWaitingForPods    = "WaitingForPods"
	ReasonCRDNotEstablished = "CRDNotEstablished"
	ReasonCRDError          = "CRDError"
)

// ConditionEnforced is True on a constraint once the next request that it
// matches is judged by it, whichever API server gets it: every pod has ingested
// its current generation, the webhook configuration has its requests sent, and
// every API server whose address is known has answered a canary at the current
// revision of the rules.
const ConditionEnforced = "Enforced"

// The reasons of ConditionEnforced.
const (
	// ReasonCanaryAnswered is the only one with the status True.
	ReasonCanaryAnswered = "CanaryAnswered"
	// ReasonNotEnforcing constraints ask for nothing at admission, as with the
	// action dryrun.
	ReasonNotEnforcing = "NotEnforcing"
	// ReasonRejected constraints were not accepted by a pod.
	ReasonRejected = "Rejected"
	// ReasonInventoryIncomplete constraints are not judged by, since a pod has
	// not got all the data that their policy reads.
	ReasonInventoryIncomplete = "InventoryIncomplete"
	// ReasonIngesting constraints are not known to every pod yet.
	ReasonIngesting = "Ingesting"
	// ReasonNotServed constraints match kinds that the cluster does not serve.
	ReasonNotServed = "NotServed"
	// ReasonNotInterceptable constraints match kinds that no webhook of
	// Fusegate is ever sent; they are audited.
	ReasonNotInterceptable = "NotInterceptable"
	// ReasonExempt constraints match only what lies inside the perimeter.
	ReasonExempt = "Exempt"
	// ReasonNarrowedBy says that somebody else's change keeps requests from
	// the webhook.
	ReasonNarrowedBy = "NarrowedBy"
	// ReasonContested says that somebody undoes what keeps the webhook safe,
	// so that it is not armed.
	ReasonContested = "Contested"
	// ReasonFuseOpen says that the webhook is disarmed on purpose.
	ReasonFuseOpen = "FuseOpen"
	// ReasonNotArmed says that the rules have not been brought up to date.
	ReasonNotArmed = "NotArmed"
	// ReasonCanaryAdmitted says that an API server let a canary through.
	ReasonCanaryAdmitted = "CanaryAdmitted"
	// ReasonCanaryUnknown says that an API server could not be asked.
	ReasonCanaryUnknown = "CanaryUnknown"
)

// LabelPresence marks the Lease by which a process of Fusegate shows that it is
// alive; its value is "true".
const LabelPresence = "fusegate.dev/presence"

// LabelConstraintCRD is set, to "yes", on the generated CRD of each constraint
// kind. It is Gatekeeper's, since tools look for it.
const LabelConstraintCRD = "gatekeeper.sh/constraint"

// ConditionAudited is True on a constraint once status.totalViolations counts
// every existing object that it matches. The counts are a lower bound while it
// is False.
const ConditionAudited = "Audited"

// The reasons of ConditionAudited.
const (
	// ReasonAudited is the only one with the status True.
	ReasonAudited = "Complete"
	// ReasonGap says that a kind could not be read.
	ReasonGap = "Gap"
	// ReasonFaults says that the policy failed on some objects.
	ReasonFaults = "Faults"
	// ReasonReading says that objects came and went in a window in which nothing
	// was followed, and that what is there now is being read, or is read now and
	// then where it cannot be followed.
	ReasonReading = "Reading"
	// ReasonNotInForce says that the constraint is not judged by as it is: it or
	// its template has errors. The counts are those of before, or by the version
	// of before where that is judged by.
	ReasonNotInForce = "NotInForce"
	// ReasonNotAsked says that the constraint asks for nothing at audit.
	ReasonNotAsked = "NotAsked"
	// ReasonInventoryStale says that the policy reads objects which are not
	// followed any more, so that the counts may be wrong.
	ReasonInventoryStale = "InventoryStale"
	// ReasonNotAuditable says that the policy reads what only a request has.
	ReasonNotAuditable = "NotAuditable"
)
