package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Action is what a constraint asks to be done about a violation. Beside this
// file, where it is named, ranked and given its effect on a request, pkg/output
// says how it is shown; nothing else tells one action from another.
type Action string

// The actions of a constraint's spec.enforcementAction.
const (
	Deny   Action = "deny"
	Warn   Action = "warn"
	DryRun Action = "dryrun"
	// Scoped stands for the actions of spec.scopedEnforcementActions, which
	// depend on the enforcement point.
	Scoped Action = "scoped"
)

// direct are the actions that say themselves what is to be done, the strictest
// first.
var direct = []Action{Deny, Warn, DryRun}

// Actions are those that a violation can call for, the strictest first: all but
// Scoped.
func Actions() []Action { return slices.Clone(direct) }

// ParseAction reads a spec.enforcementAction. The error names what it can be.
func ParseAction(s string) (Action, error) { return parse(s, append(Actions(), Scoped)) }

// ParseScopedAction reads an action of spec.scopedEnforcementActions.
func ParseScopedAction(s string) (Action, error) { return parse(s, direct) }

func parse(s string, among []Action) (Action, error) {
	if slices.Contains(among, Action(s)) {
		return Action(s), nil
	}
	return "", fmt.Errorf("%q is not supported: use one of %s", s, join(among, ", "))
}

func join(actions []Action, separator string) string {
	out := make([]string, len(actions))
	for i, a := range actions {
		out[i] = string(a)
	}
	return strings.Join(out, separator)
}

// Has reports whether the constraint asks for action a at this point.
func (c Constraint) Has(a Action) bool {
	if c.Action == Scoped {
		return slices.Contains(c.ScopedActions, a)
	}
	return c.Action == a
}

// ActsOnRequests reports whether a violation changes the answer to a request.
func (c Constraint) ActsOnRequests() bool { return c.Has(Deny) || c.Has(Warn) }

// Asks reports whether the constraint asks for anything at this point.
func (c Constraint) Asks() bool { return slices.ContainsFunc(direct, c.Has) }

// Strictest is the action that counts where a constraint asks for several. It is
// Scoped for one that asks for nothing at this point.
func (c Constraint) Strictest() Action {
	if i := slices.IndexFunc(direct, c.Has); i >= 0 {
		return direct[i]
	}
	return c.Action
}

// ActionNames are what the constraint asks for at this point, with commas
// between.
func (c Constraint) ActionNames() string {
	if c.Action == Scoped {
		return join(c.ScopedActions, ",")
	}
	return string(c.Action)
}
