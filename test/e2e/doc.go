// Package e2e holds tests of Fusegate as processes on a real control plane: what
// a user does with kubectl, and what comes of it.
package e2e
