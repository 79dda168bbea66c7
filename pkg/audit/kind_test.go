package audit

import (
	"testing"
	"time"
)

// TestNext has a constraint change while it is decided what to read next: a
// reading that counts as one of the change is by that constraint.
func TestNext(t *testing.T) {
	k, _ := newPaced(t, false)
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

// contend lets goroutines wait for a lock for so long that it is handed on in the
// order in which they came (sync.Mutex: after a millisecond, once one of them has
// woken in vain). That is no condition that could be waited for.
func contend() { <-time.After(3 * time.Millisecond) }

// ask has a constraint ask something else. The caller holds the lock.
func (k *kind) ask(c *constraint) {
	k.a.sequence++
	c.since, k.wanted = k.a.sequence, k.a.sequence
}
