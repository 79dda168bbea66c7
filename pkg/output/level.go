package output

import "github.com/fusegate/fusegate/pkg/policy"

// Level is how bad something is.
type Level string

// The levels. What could not be found out is an error.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Note    Level = "note"
)

// Tone is what a terminal with colours makes of a cell.
type Tone int

// The tones.
const (
	Plain Tone = iota
	Bad
	Caution
	Quiet
)

// shown is how each action is shown.
var shown = map[policy.Action]struct {
	level Level
	tone  Tone
}{
	policy.Deny:   {Error, Bad},
	policy.Warn:   {Warning, Caution},
	policy.DryRun: {Note, Quiet},
}

// levelOf is how bad a violation is. One whose action nobody knows may be of the
// worst.
func levelOf(a policy.Action) Level {
	if s, ok := shown[a]; ok {
		return s.level
	}
	return Error
}

func toneOf(a policy.Action) Tone { return shown[a].tone }
