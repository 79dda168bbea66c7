// Package install says what Fusegate puts into a cluster and puts it there:
// Render turns a Config into a Plan, Plan.Apply brings a cluster to it by
// server-side apply, Remove takes it away again.
//
// Every field has one owner. The plan owns the objects themselves and the safe
// part of the webhook configuration: failurePolicy, timeout, selector and
// matchConditions, all made in one function from the perimeter (pkg/exempt).
// It never mentions the rules, which arming owns, nor the certificate
// authority of a Service, which the certificate injector owns; so a webhook
// configuration as installed intercepts nothing, and applying the plan again
// changes neither.
package install
