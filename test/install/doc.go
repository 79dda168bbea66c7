// Package install holds tests of getting Fusegate into a cluster and out of it
// again on a real control plane: beside others, over earlier versions, interrupted.
package install
