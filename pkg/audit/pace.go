package audit

import (
	"context"
	"time"
)

const (
	// sparingShare is the part of the time, one in so many, that listing and
	// reviewing take of what is read sparingly.
	sparingShare = 50
	// sparingPage is how many objects are asked for at a time then: the API
	// server takes a few milliseconds for so many, and so do their reviews.
	sparingPage = 12
	// sparingFor is how long a list may take for being read sparingly. The API
	// server forgets after five minutes as of when it is.
	sparingFor = 4 * time.Minute
)

// sparing tells whether a list is read in small pages with rests between them,
// so that who waits for a processor or for the API server hardly notices: one
// that nobody waits for, and any while others want the processors.
func (k *kind) sparing(r *reading) bool { return r.atLeisure() || k.a.o.Crowded() }

// atLeisure tells whether nobody waits for a list.
func (r *reading) atLeisure() bool {
	if !r.leisurely {
		return false
	}
	select {
	case <-r.hurried:
		return false
	default:
		return true
	}
}

// lull waits after a page that was read sparingly and took a while, with pages
// left. It returns early where somebody waits for the list.
func (k *kind) lull(ctx context.Context, r *reading, took time.Duration, left int64) {
	hurried := (chan struct{})(nil)
	if r.atLeisure() {
		hurried = r.hurried
	}
	rest := took * (sparingShare - 1)
	if most := sparingFor - k.a.o.Clock.Since(r.began); left > 0 {
		rest = min(rest, most/time.Duration(left))
	}
	if rest <= 0 {
		return
	}
	timer := k.a.o.Clock.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	case <-hurried:
	}
}

// hurry has the rest of a list read at once if something else waits for it to
// end.
func (k *kind) hurry(r *reading) {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	if r.atLeisure() && (k.wanted > k.swept || len(k.reread) > 0) {
		close(r.hurried)
	}
}
