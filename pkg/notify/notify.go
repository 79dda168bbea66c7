// Package notify has one goroutine told by others that there is something to look
// at. It imports nothing of ours.
package notify

// Signal is set by whoever has news, and received by the one goroutine that acts on
// them. Being set twice before that is being set once: it says that something has
// changed, and not what or how often. It is safe for concurrent use. The zero value
// is not ready for use.
type Signal struct{ c chan struct{} }

// New returns a Signal that is not set.
func New() Signal { return Signal{make(chan struct{}, 1)} }

// Set sets the signal. It does not block.
func (s Signal) Set() {
	select {
	case s.c <- struct{}{}:
	default:
	}
}

// C receives once after the signal was set, and never otherwise.
func (s Signal) C() <-chan struct{} { return s.c }
