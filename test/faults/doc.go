// Package faults holds tests that break what can break around Fusegate on a real
// control plane, one each, and check that the outcome is the safe one.
package faults
