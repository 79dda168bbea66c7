package audit_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/fusegate/fusegate/pkg/audit"
)

// told is an ObjectSink that remembers what it was last told of each object.
type told struct {
	mu    sync.Mutex
	lines map[string]string // by name
	idle  int               // batches without objects, since the last with one
}

func (s *told) Objects(_ context.Context, batch audit.ObjectBatch) (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle++
	for _, o := range batch.Objects {
		var findings []string
		for _, f := range o.Findings {
			findings = append(findings, fmt.Sprintf("%s: %s (%s)", f.Constraint, f.Message, f.Constraint.Action))
		}
		s.lines[o.Name], s.idle = strings.Join(findings, "; "), 0
	}
	return false
}

func (s *told) await(t *testing.T, what string, want map[string]string) {
	t.Helper()
	await(t, what, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !maps.Equal(s.lines, want) || s.idle < 2 {
			return fmt.Errorf("got %v, %d batches before the last", s.lines, s.idle)
		}
		return nil
	})
}

// TestObjects has objects told again when a constraint by which something was
// found of them asks for another action, though it finds what it found before: the
// sink is quiet by then, and asks for nothing itself.
func TestObjects(t *testing.T) {
	s := &told{lines: map[string]string{}}
	w := newWorld(t, audit.Options{Objects: s})
	w.fill("audit-objects", 2)
	w.template("Wants", "lacks")
	add := func(name, action string) {
		t.Helper()
		c := parse(t, fmt.Sprintf("{apiVersion: constraints.gatekeeper.sh/v1beta1, kind: Wants, metadata: {name: %s}, spec: {enforcementAction: %s, match: %s, parameters: {label: owner}}}",
			name, action, ofMaps("audit-objects")))
		if err := w.engine.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	of := func(findings ...string) map[string]string {
		text := strings.Join(findings, "; ")
		return map[string]string{"o000": text, "o001": text}
	}
	add("owners", "deny")
	s.await(t, "what exists", of("Wants/owners: lacks owner (deny)"))
	add("owners", "dryrun")
	s.await(t, "another action", of("Wants/owners: lacks owner (dryrun)"))
	add("more", "warn")
	both := of("Wants/more: lacks owner (warn)", "Wants/owners: lacks owner (dryrun)")
	s.await(t, "another constraint", both)
	add("more", "deny")
	s.await(t, "another action of that", of("Wants/more: lacks owner (deny)", "Wants/owners: lacks owner (dryrun)"))
}
