package webhook

import (
	"fmt"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Sizes are what an object may have before it is refused unseen, where a
// constraint that denies matches it; zero for any.
type Sizes struct {
	// Bytes is of its JSON; see policy.Size.
	Bytes int64
	// Containers is how many its pod may have, and Depth how deep its values may
	// lie in each other.
	Containers, Depth int
}

// Matcher finds what would judge an object.
type Matcher interface {
	// Denying returns a constraint that matches r, and that denies an object on
	// which its policy fails.
	Denying(r *policy.Review) (policy.Constraint, bool)
}

// dimension is one of those in which an object can be too large.
type dimension struct {
	name, setting string
	size          func(policy.Size) int64
	limit         func(Sizes) int64
}

var dimensions = []dimension{
	{"bytes", "maxObjectBytes", func(s policy.Size) int64 { return s.Bytes }, func(s Sizes) int64 { return s.Bytes }},
	{"containers", "maxObjectContainers", func(s policy.Size) int64 { return int64(s.Containers) }, func(s Sizes) int64 { return int64(s.Containers) }},
	{"levels", "maxObjectDepth", func(s policy.Size) int64 { return int64(s.Depth) }, func(s Sizes) int64 { return int64(s.Depth) }},
}

// oversized returns a denial of a request whose object is larger than is judged,
// and in what, false if it is to be judged. What is deleted is never refused, nor
// is an update that does not make an object larger which is so already: whoever
// stored it may mend it.
func (h *Handler) oversized(r *policy.Review) (d policy.Decision, in string, denied bool) {
	if h.matcher == nil || r.Operation != policy.Create && r.Operation != policy.Update {
		return d, "", false
	}
	now := policy.Measure(r.Object)
	for _, dim := range dimensions {
		limit, has := dim.limit(h.sizes), dim.size(now)
		if limit <= 0 || has <= limit {
			continue
		}
		if r.Operation == policy.Update && has <= dim.size(policy.Measure(r.OldObject)) {
			continue
		}
		c, ok := h.matcher.Denying(r)
		if !ok {
			return d, "", false
		}
		text := fmt.Sprintf("the object has %d %s, and no more than %d are judged (%s)", has, dim.name, limit, dim.setting)
		return policy.Decision{Message: policy.Line(c, text)}, dim.name, true
	}
	return d, "", false
}
