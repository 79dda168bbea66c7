//go:build !linux

package audit

// stepBack does nothing where threads have no priority of their own.
func stepBack() {}
