package engine

import "time"

// Observer is told what goes on in an engine. Its methods are called from many
// goroutines, in the path of requests.
type Observer interface {
	// Timer returns what is told how long evaluations by a kind's constraints
	// took. It is called when the template is added.
	Timer(kind string) func(time.Duration)
	// Forget says that the template with this name is gone.
	Forget(template string)
	// Panicked is called when an evaluator panicked over a kind's policy.
	Panicked(kind string)
	// Checked is called when the compiled code of a kind was compared with the
	// interpreter.
	Checked(kind string, differs bool)
}

type unobserved struct{}

func (unobserved) Timer(string) func(time.Duration) { return nil }
func (unobserved) Forget(string)                    {}
func (unobserved) Panicked(string)                  {}
func (unobserved) Checked(string, bool)             {}

// Observe sets who is told what goes on. It is to be called before templates
// are added.
func (e *Engine) Observe(o Observer) {
	e.observer = o
	e.rego.Observe(o)
}
