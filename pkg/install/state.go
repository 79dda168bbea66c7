package install

import (
	"errors"
	"reflect"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/match"
)

// State is what the guard last saw of the live configuration.
type State struct {
	// Armed tells whether it is as rendered, with the rules that the
	// constraints need at Revision. Otherwise Reason, one of
	// v1alpha1.ConditionEnforced, and Message say why.
	Armed bool
	// Pending tells that nothing can be said yet: the process has just become
	// the leader.
	Pending  bool
	Revision string
	Reason   string
	Message  string

	verdicts map[Identity]Interception
}

// Identity is a version of a constraint.
type Identity struct {
	Kind, Name string
	UID        types.UID
	Generation int64
}

func identityOf(n match.Need) Identity {
	return Identity{Kind: n.Kind, Name: n.Name, UID: n.UID, Generation: n.Generation}
}

// Interception tells whether requests for a constraint are sent to the webhook.
type Interception struct {
	Intercepted bool
	// Reason is one of v1alpha1.ConditionEnforced, empty if Intercepted. With
	// it, Message is for what is only partly so.
	Reason, Message string
}

// State returns what the guard last saw.
func (g *Guard) State() *State { return g.state.Load() }

// Of tells what is known of a constraint.
func (s *State) Of(id Identity) Interception {
	if !s.Armed {
		return Interception{Reason: s.Reason, Message: s.Message}
	}
	if v, known := s.verdicts[id]; known {
		return v
	}
	return Interception{Reason: v1alpha1.ReasonNotArmed, Message: "the rules of the webhook are about to be brought up to date"}
}

// unarmed records why the configuration is not armed, and returns the reason.
func (g *Guard) unarmed(err error) error {
	reason := v1alpha1.ReasonNotArmed
	if errors.Is(err, errContested) {
		reason = v1alpha1.ReasonContested
	}
	g.metrics.armed.Set(0)
	g.become(&State{Reason: reason, Message: err.Error()})
	return err
}

// become publishes a state, and tells of it if it is another.
func (g *Guard) become(s *State) {
	if reflect.DeepEqual(g.state.Load(), s) {
		return
	}
	g.state.Store(s)
	g.Stated()
}
