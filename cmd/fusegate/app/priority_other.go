//go:build !linux

package app

// stepBack does nothing where threads have no priority of their own.
func stepBack() error { return nil }

// beBrief does nothing there either.
func beBrief() error { return nil }
