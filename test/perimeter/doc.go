// Package perimeter holds tests of what never reaches Fusegate, with constraints
// that deny everything: the requests that a cluster lives by, and the work of its
// real components.
package perimeter
