package status

import (
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// lostFor is for how long what did not stay in a status is not written again: the
	// CRD may be another meanwhile.
	lostFor = 10 * time.Minute
	// maxLost bounds how many entries are remembered that did not stay.
	maxLost = 10_000
)

// What a process has learned of the schemas of CRDs. It only saves requests: nothing
// is wrong if it is forgotten.
var (
	atomicKinds = &kindSet{kinds: map[listOfKind]bool{}}
	lost        = &lostShares{by: map[place]lostShare{}, said: map[listOfKind]bool{}}
)

// listOfKind is a list in the status of the objects of a kind.
type listOfKind struct {
	kind schema.GroupKind
	list string
}

func (s share) kind(object *unstructured.Unstructured) listOfKind {
	return listOfKind{object.GroupVersionKind().GroupKind(), s.list}
}

// kindSet holds the lists that an apply replaces as a whole.
type kindSet struct {
	mu    sync.Mutex
	kinds map[listOfKind]bool
}

func (k *kindSet) has(l listOfKind) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kinds[l]
}

func (k *kindSet) add(l listOfKind) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kinds[l] = true
}

// place is where an entry belongs.
type place struct {
	listOfKind
	uid types.UID
	id  string
}

func (s share) place(object *unstructured.Unstructured) place {
	return place{s.kind(object), object.GetUID(), s.id()}
}

// lostShares remembers what was written and did not stay.
type lostShares struct {
	mu   sync.Mutex
	by   map[place]lostShare
	said map[listOfKind]bool
}

type lostShare struct {
	share
	at time.Time
}

// has reports whether this was written there not long ago, and did not stay.
func (l *lostShares) has(p place, s share) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was, found := l.by[p]
	return found && time.Since(was.at) < lostFor && s.same(was.entry, s.entry) && reflect.DeepEqual(was.fields, s.fields)
}

// note remembers that, and reports whether it is the first of its kind.
func (l *lostShares) note(p place, s share) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.by) >= maxLost {
		clear(l.by)
	}
	l.by[p] = lostShare{s, time.Now()}
	first := !l.said[p.listOfKind]
	l.said[p.listOfKind] = true
	return first
}
