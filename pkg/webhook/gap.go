package webhook

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/gap"
)

// maxSought is how far an object is looked through for its name when it was not
// decoded, in bytes. API servers write the name of their own kinds first, and that of
// others in the order of the alphabet, after what may come before "metadata".
const maxSought = 8 << 20

// note counts and records a request that was not judged by all constraints that deny,
// or whose answer nobody waits for any more.
func (h *Handler) note(in *intake, judged bool) {
	if judged || !in.known || in.ofPolicies() {
		return
	}
	lane := laneOrdinary
	if in.key.Reserved {
		lane = laneReserved
	}
	h.metrics.unjudged.WithLabelValues(lane).Inc()
	if h.gaps == nil {
		return
	}
	p := gap.Passed{
		Group: in.head.Kind.Group, Version: in.head.Kind.Version, Kind: in.head.Kind.Kind, Namespace: in.head.Namespace, At: time.Now().Unix(),
	}
	if in.review != nil {
		object := unstructured.Unstructured{Object: in.review.Object}
		p.Name, p.UID = object.GetName(), object.GetUID()
	} else {
		object := in.body[min(in.head.object, len(in.body)):]
		name, uid := scanObject(object[:min(len(object), maxSought)])
		p.Name, p.UID = name, types.UID(uid)
	}
	h.gaps.Record(in.key.Source, p)
}
