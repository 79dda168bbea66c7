package app

// exitBroken is the exit code of the offline commands when something could not
// be run, as opposed to having been run with an unwelcome outcome (exitError).
const exitBroken = 2

// exit is an error with an exit code of its own. Without err there is nothing
// to say that the output has not said.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exit) Unwrap() error { return e.err }
