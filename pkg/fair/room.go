package fair

import (
	"context"
	"sync"
)

// Room is memory that is taken as it fills. Where there is none left, the source
// that holds the most gives way to one that holds less, by what came last. It is
// safe for concurrent use.
type Room struct {
	size, ofFlow int64

	mu      sync.Mutex
	used    int64
	sources map[string]int64
	flows   map[Key]int64
	// claims are all, in the order in which they came.
	claims []*Claim
	// freed is closed, and made anew, when there may be more room.
	freed chan struct{}
}

// Claim is the part of a Room that one request holds.
type Claim struct {
	room *Room
	key  Key
	held int64
	// whole is set when nothing more will be asked for, kept when it cannot give
	// way any more, and evicted when it has to.
	whole, kept, evicted bool
	giveWay              func()
}

// NewRoom returns room of so many bytes, of which a flow may hold ofFlow.
func NewRoom(size, ofFlow int64) *Room {
	return &Room{size: size, ofFlow: ofFlow, sources: map[string]int64{}, flows: map[Key]int64{}, freed: make(chan struct{})}
}

// Enter begins a claim that holds nothing. giveWay is called at most once, if the
// claim has to leave before it is kept; it must not block, and whoever has the claim
// must then Leave soon. The caller calls Leave in any case.
func (r *Room) Enter(key Key, giveWay func()) *Claim {
	c := &Claim{room: r, key: key, giveWay: giveWay}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims = append(r.claims, c)
	return c
}

// Grow takes n bytes more, and waits for them until ctx ends. The error is ErrShare
// if the flow of the claim holds all that it may, and ErrFull otherwise.
func (c *Claim) Grow(ctx context.Context, n int64) error {
	r := c.room
	for {
		r.mu.Lock()
		done, err := r.grow(c, n)
		freed := r.freed
		own := r.flows[c.key]+n > r.ofFlow && !c.key.Reserved
		r.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return blame(own)
		}
	}
}

// grow tells whether the matter is settled.
func (r *Room) grow(c *Claim, n int64) (bool, error) {
	own := r.flows[c.key]+n > r.ofFlow
	switch {
	case c.evicted:
		return true, ErrFull
	case !own && r.used+n <= r.size && !r.strange(c, n):
		r.add(c, n)
		return true, nil
	}
	victim := r.wayGiver(c, n, own)
	if victim == c {
		return true, blame(own && !c.key.Reserved)
	}
	if victim != nil {
		victim.evicted = true
		victim.giveWay()
	}
	return false, nil
}

// strange tells whether n bytes more are more than strangers may have.
func (r *Room) strange(c *Claim, n int64) bool {
	return c.key.Stranger && r.sources[c.key.Source]+n > r.size/8
}

// wayGiver is who has to leave for c to have n bytes more, nil if it is to wait for
// those who leave by themselves.
//
// Where all others of a flow, or of the source that holds the most, wait for more
// as c does, the last of them gives way: they would wait for each other.
func (r *Room) wayGiver(c *Claim, n int64, own bool) *Claim {
	most := c.key.Source
	if !own && !r.strange(c, n) {
		for source, held := range r.sources {
			if held > r.sources[most]+n {
				most = source
			}
		}
	}
	var last *Claim
	for _, o := range r.claims {
		if o.held == 0 && o != c || o.key.Source != most || own && o.key != c.key {
			continue
		}
		if o.evicted || o.whole && most == c.key.Source {
			return nil // it leaves by itself
		}
		if !o.kept {
			last = o
		}
	}
	return last
}

func (r *Room) add(c *Claim, n int64) {
	c.held += n
	r.used += n
	if r.sources[c.key.Source] += n; r.sources[c.key.Source] == 0 {
		delete(r.sources, c.key.Source)
	}
	if r.flows[c.key] += n; r.flows[c.key] == 0 {
		delete(r.flows, c.key)
	}
}

// Whole says that nothing more will be asked for. It may have to give way still, but
// only to other sources.
func (c *Claim) Whole() {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	c.whole = true
}

// Keep says that the claim will not give way any more. It returns false if it has to.
func (c *Claim) Keep() bool {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	c.whole, c.kept = true, true
	return !c.evicted
}

// Leave gives back what the claim holds. What comes after the first call does
// nothing.
func (c *Claim) Leave() {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, o := range r.claims {
		if o == c {
			r.claims = append(r.claims[:i:i], r.claims[i+1:]...)
			r.add(c, -c.held)
			close(r.freed)
			r.freed = make(chan struct{})
			return
		}
	}
}

// Idle tells whether nobody has a claim.
func (r *Room) Idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used == 0 && len(r.claims)+len(r.sources)+len(r.flows) == 0
}
