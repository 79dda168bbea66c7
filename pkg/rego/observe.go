package rego

// Observer is told what goes on while policies are evaluated. Its methods are
// called from many goroutines, in the path of requests.
type Observer interface {
	// Panicked is called when an evaluator panicked over a policy of a kind.
	// The evaluation is a fault, or was done by the interpreter.
	Panicked(kind string)
}

type unobserved struct{}

func (unobserved) Panicked(string) {}
