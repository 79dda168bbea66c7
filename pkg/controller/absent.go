package controller

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/status"
)

// NotInForce is a constraint that the engine does not have as it is.
type NotInForce struct {
	Kind, Name string
	// UID and Generation tell which version is not in force.
	UID        types.UID
	Generation int64
	Why        string
}

// absences are the constraints that are not in force as they are. It is safe for
// concurrent use.
type absences struct {
	mu  sync.Mutex
	all map[key]NotInForce
}

// put notes why a constraint is not in force; without errors it is.
func (a *absences) put(k key, u *unstructured.Unstructured, errs []status.Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(errs) == 0 {
		delete(a.all, k)
		return
	}
	why := make([]string, len(errs))
	for i, e := range errs {
		why[i] = e.Message
	}
	a.all[k] = NotInForce{Kind: k.kind, Name: k.name, UID: u.GetUID(), Generation: u.GetGeneration(), Why: strings.Join(why, "; ")}
}

// drop forgets a constraint that is gone.
func (a *absences) drop(k key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, k)
}

// dropKind forgets the constraints of a kind that is gone.
func (a *absences) dropKind(kind string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.all, func(k key, _ NotInForce) bool { return k.kind == kind })
}

// NotInForce returns the constraints that are not judged by as they are, sorted
// by kind and name: those with errors, and those whose template has errors or is
// not there. Those that wait for data are not among them.
func (i *Ingest) NotInForce() []NotInForce {
	i.absences.mu.Lock()
	defer i.absences.mu.Unlock()
	return slices.SortedFunc(maps.Values(i.absences.all), func(x, y NotInForce) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name))
	})
}
