package controller

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// maxNamed is how many objects an unready answer names.
const maxNamed = 20

// Readiness knows what existed when the process started and has not been
// ingested yet. It answers /readyz: 200 once everything that existed at start
// is in force or has a recorded error. Whether requests are intercepted plays
// no part in it.
type Readiness struct {
	mu      sync.Mutex
	listed  bool
	problem error
	pending map[key]bool
	// What was seen before it was known what exists.
	done    map[key]bool
	excused map[string]bool // lower-case kinds
}

// NewReadiness returns a Readiness that waits to be told what exists.
func NewReadiness() *Readiness {
	return &Readiness{pending: map[key]bool{}, done: map[key]bool{}, excused: map[string]bool{}}
}

// expect is told what exists. The first time, that is what will be waited for,
// except what was observed before; later, what no longer exists is waited for
// no more.
func (r *Readiness) expect(keys []key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pending := map[key]bool{}
	for _, k := range keys {
		if r.awaits(k) {
			pending[k] = true
		}
	}
	r.listed, r.problem, r.done, r.excused, r.pending = true, nil, nil, nil, pending
}

// awaits tells whether k, which exists, must be waited for.
func (r *Readiness) awaits(k key) bool {
	if r.listed {
		return r.pending[k]
	}
	return !r.done[k] && !(k.kind != "" && r.excused[strings.ToLower(k.kind)])
}

// concerns tells whether a constraint of kind may be waited for.
func (r *Readiness) concerns(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.listed {
		return true
	}
	for k := range r.pending {
		if k.kind == kind {
			return true
		}
	}
	return false
}

// blocked records why what exists is not known yet.
func (r *Readiness) blocked(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problem = err
}

// observed records that k is in force, has a recorded error, or is gone.
func (r *Readiness) observed(k key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, k)
	if !r.listed {
		r.done[k] = true
	}
}

// waived records that the constraints of kind are not waited for, since their
// template has an error.
func (r *Readiness) waived(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.listed {
		r.excused[strings.ToLower(kind)] = true
	}
	for k := range r.pending {
		if k.kind != "" && strings.EqualFold(k.kind, kind) {
			delete(r.pending, k)
		}
	}
}

// Err is nil when ready, and otherwise names what is still waited for.
func (r *Readiness) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.listed && r.problem != nil {
		return fmt.Errorf("listing what exists: %w", r.problem)
	}
	if !r.listed {
		return errors.New("listing what exists")
	}
	if len(r.pending) == 0 {
		return nil
	}
	names := make([]string, 0, len(r.pending))
	for k := range r.pending {
		names = append(names, k.String())
	}
	slices.Sort(names)
	if more := len(names) - maxNamed; more > 0 {
		names = append(names[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("waiting for %s", strings.Join(names, ", "))
}

// Check makes Err a health check.
func (r *Readiness) Check(*http.Request) error { return r.Err() }
