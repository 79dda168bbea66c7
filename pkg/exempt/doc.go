// Package exempt is the protected perimeter: one value that says who and what
// is outside policy, so that the control plane, the nodes and Fusegate itself
// never depend on a webhook that they keep alive.
//
// The perimeter is a list of rules over the fields of an admission request.
// From the same rules come the namespaceSelector and the matchConditions that
// the API server evaluates before it calls the webhook, the second check that
// the webhook makes itself, and what audit counts as exempt; so the three
// cannot disagree. It stands between policy, whose Review it judges, and the
// packages that render, simulate or lint webhook configurations.
//
// Nothing in it can be turned off. Options only widen it, except that
// Options.KubeSystemAccounts chooses between two readings of one rule.
package exempt
