package audit

import (
	"testing"
	"time"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// TestNext has a constraint change while it is decided what to read next: a
// reading that counts as one of the change is by that constraint.
func TestNext(t *testing.T) {
	k := newIdle()
	first, second := &constraint{}, &constraint{}
	k.constraints = map[*constraint]bool{first: true, second: true}
	for range 20 {
		begun, changed := make(chan *reading), make(chan struct{})
		k.a.mu.Lock()
		k.ask(first)
		go func() { begun <- k.next(false) }()
		contend()
		go func() {
			k.a.mu.Lock()
			defer k.a.mu.Unlock()
			k.ask(second)
			close(changed)
		}()
		contend()
		k.a.mu.Unlock()
		k.a.mu.Lock() // whoever waits is late, and from now on handed the lock
		contend()
		k.a.mu.Unlock()
		r := <-begun
		<-changed
		if r == nil || !r.only[first] {
			t.Fatalf("got reading %+v, want one by the constraint that has changed", r)
		}
		if second.since <= r.sequence && !r.only[second] {
			t.Fatal("a constraint that changed meanwhile counts as read, and is not")
		}
		k.end(r)
		k.swept = k.a.sequence
	}
}

// TestNextTurns has data change all the time: what else is wanted has its turn.
func TestNextTurns(t *testing.T) {
	k := newIdle()
	c := &constraint{}
	k.constraints = map[*constraint]bool{c: true}
	read := func(due bool) string {
		k.a.sequence++
		c.data, k.wanted = k.a.sequence, k.a.sequence
		r := k.next(due)
		defer k.end(r)
		switch {
		case r.namespace != "":
			return "namespace"
		case r.only != nil:
			k.swept = r.sequence
			return "data"
		}
		k.swept = r.sequence
		return "all"
	}
	k.reread["a"] = true
	for i, want := range []string{"data", "namespace", "data", "data"} {
		if got := read(false); got != want {
			t.Errorf("reading %d is for %s, want %s", i, got, want)
		}
	}
	if got := read(true); got != "all" {
		t.Errorf("when all is due the reading is for %s", got)
	}
	k.reread["a"] = true
	k.a.mu.Lock()
	k.ask(c)
	k.a.mu.Unlock()
	if r := k.next(true); !r.only[c] {
		t.Errorf("a constraint that has changed comes after %+v", r)
	}
}

// TestGapOrder has kinds named before constraints, and those before objects.
func TestGapOrder(t *testing.T) {
	for name, tc := range map[string]struct {
		gap  v1alpha1.AuditGap
		want int
	}{
		"Kind":       {v1alpha1.AuditGap{Group: "apps", Kind: "Deployment"}, 0},
		"Group":      {v1alpha1.AuditGap{Group: "apps"}, 0},
		"Constraint": {v1alpha1.AuditGap{Constraint: "K/c"}, 1},
		"Object":     {v1alpha1.AuditGap{Kind: "Pod", Name: "a", Constraint: "K/c"}, 2},
	} {
		if got := rank(tc.gap); got != tc.want {
			t.Errorf("%s: rank %d, want %d", name, got, tc.want)
		}
	}
}

// contend lets goroutines wait for a lock for so long that it is handed on in the
// order in which they came (sync.Mutex: after a millisecond, once one of them has
// woken in vain). That is no condition that could be waited for.
func contend() { <-time.After(3 * time.Millisecond) }

// ask has a constraint ask something else. The caller holds the lock.
func (k *kind) ask(c *constraint) {
	k.a.sequence++
	c.since, k.wanted = k.a.sequence, k.a.sequence
}

// newIdle is a kind of which nothing is read.
func newIdle() *kind {
	return newKind(&Auditor{o: Options{}.withDefaults()}, resource{})
}
