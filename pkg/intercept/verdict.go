package intercept

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/policy"
)

// State sums up whether an entry intercepts what a constraint needs.
type State string

// The states.
const (
	// Intercepted means that every sample is sent to the entry.
	Intercepted State = "Intercepted"
	// Partly means that some samples are kept from it, but only in some
	// namespaces, or of some users or objects: others with the same resource
	// and operation are sent. So it is where a provider's namespaceSelector
	// leaves out the namespaces of its add-ons.
	Partly State = "Partly"
	// Narrowed means that a resource or an operation is kept from it
	// altogether, and not by the fuse alone.
	Narrowed State = "Narrowed"
	// Disarmed means that the open fuse, and nothing else, keeps samples from
	// it.
	Disarmed State = "Disarmed"
	// Unclear means that there are no samples, or that for some it is
	// Undecided whether they are sent and none is kept from it for sure.
	Unclear State = "Unclear"
)

// Miss is a sample that is not sent to the entry.
type Miss struct {
	Request Request
	// Reasons are those of the Outcome.
	Reasons []Reason
}

// Verdict says whether an entry intercepts what a constraint needs.
type Verdict struct {
	State State
	// Sent counts the samples that are sent to the entry.
	Sent int
	// Missed are the others, in the order of the samples.
	Missed []Miss
}

// Verdict judges all samples of a constraint. If ctx ends meanwhile, the
// samples left count as Undecided.
func (s *Simulator) Verdict(ctx context.Context, samples []Request) Verdict {
	var v Verdict
	seen := sent{acts: map[act]bool{}}
	for _, r := range samples {
		o := s.Judge(ctx, r)
		if o.Called {
			v.Sent++
			seen.add(r)
			continue
		}
		v.Missed = append(v.Missed, Miss{r, o.Reasons})
	}
	v.State = v.state(seen)
	return v
}

// act is what a request does, whoever does it and wherever.
type act struct {
	resource    schema.GroupVersionResource
	subresource string
	operation   policy.Operation
}

func actOf(r Request) act { return act{r.Resource, r.SubResource, r.Operation} }

// sent is what of the samples was sent.
type sent struct {
	acts       map[act]bool
	namespaced bool
}

func (s *sent) add(r Request) {
	s.acts[actOf(r)] = true
	s.namespaced = s.namespaced || r.namespace() != ""
}

// beside tells whether samples like the one that is missed were sent: in
// another namespace, if it is the namespace that is missed.
func (s *sent) beside(m Miss) bool {
	if m.Reasons[0].Cause == NamespaceSelector {
		return s.namespaced
	}
	return s.acts[actOf(m.Request)]
}

func (v Verdict) state(s sent) State {
	var fuse, unclear, partly bool
	for _, m := range v.Missed {
		switch worst(m.Reasons) {
		case FuseOpen:
			fuse = true
		case Undecided:
			unclear = true
		default:
			if !s.beside(m) {
				return Narrowed
			}
			partly = true
		}
	}
	switch {
	case partly:
		return Partly
	case fuse:
		return Disarmed
	case unclear || v.Sent == 0:
		return Unclear
	}
	return Intercepted
}

// worst is the cause among the reasons that is nobody's intent, if there is
// one, else the open fuse, else that nothing is known.
func worst(why []Reason) Cause {
	out := Undecided
	for _, r := range why {
		switch r.Cause {
		case Undecided:
		case FuseOpen:
			out = FuseOpen
		default:
			return r.Cause
		}
	}
	return out
}

// Reasons lists each field that keeps samples from the entry once, in the
// order in which they appear, with the reason of the first such sample.
func (v Verdict) Reasons() []Reason {
	var out []Reason
	seen := map[Reason]bool{}
	for _, m := range v.Missed {
		for _, r := range m.Reasons {
			key := Reason{Cause: r.Cause, Condition: r.Condition, Field: r.Field}
			if !seen[key] {
				seen[key] = true
				out = append(out, r)
			}
		}
	}
	return out
}
