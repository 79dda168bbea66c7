package controller

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

// watches are the constraint kinds that are followed, which come and go while
// the process runs. It belongs to one goroutine.
type watches struct {
	constraints *Constraints
	queue       workqueue.TypedRateLimitingInterface[key]
	// touched is called on every event.
	touched func()
	open    map[string]watched // by template, whose name is the kind in lower case
}

// watched is a kind, as the CRD with this UID defines it.
type watched struct {
	kind string
	crd  types.UID
}

func newWatches(c *Constraints, q workqueue.TypedRateLimitingInterface[key], touched func()) *watches {
	return &watches{constraints: c, queue: q, touched: touched, open: map[string]watched{}}
}

// kind is the kind that is watched for template, empty if none is.
func (w *watches) kind(template string) string { return w.open[template].kind }

func (w *watches) has(kind string) bool { return kind != "" && w.kind(strings.ToLower(kind)) == kind }

// synced tells whether kind is watched and all its constraints have been
// listed.
func (w *watches) synced(kind string) bool { return w.has(kind) && w.constraints.synced(kind) }

// add starts to watch kind, the constraint kind of template, unless it is
// watched already, and tells whether it did. It does not wait for the first
// list.
func (w *watches) add(template, kind string, crd types.UID) (anew bool) {
	now := watched{kind: kind, crd: crd}
	if w.open[template] == now {
		return false
	}
	w.remove(template)
	w.constraints.follow(kind, func(name string) {
		w.queue.Add(key{kind: kind, name: name})
		w.touched()
	})
	w.open[template] = now
	return true
}

// remove stops to watch the constraint kind of template, if it is watched.
func (w *watches) remove(template string) {
	if kind := w.kind(template); kind != "" {
		w.constraints.unfollow(kind)
		delete(w.open, template)
	}
}
