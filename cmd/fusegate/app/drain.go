package app

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// lull is how long a webhook that was told to stop goes on answering, while it
// asks its clients to come back on another connection. An API server that sends
// a review on a connection that is just being closed gets no answer, and lets
// the object in.
const lull = 3 * time.Second

// leaving is a handler whose answers, once it is on its way out, close the
// connection: in HTTP/1.1 at once, in HTTP/2 as soon as what is in flight is
// answered.
type leaving struct {
	http.Handler
	soon atomic.Bool
}

// ServeHTTP implements http.Handler.
func (l *leaving) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.soon.Load() {
		w.Header().Set("Connection", "close")
	}
	l.Handler.ServeHTTP(w, r)
}

// after returns a context that ends one lull after ctx, and l says so from
// the end of ctx on. The caller must call stop.
func (l *leaving) after(ctx context.Context) (late context.Context, stop func()) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	release := context.AfterFunc(ctx, func() {
		l.soon.Store(true)
		timer := time.NewTimer(lull)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-late.Done():
		}
		cancel()
	})
	return late, func() { release(); cancel() }
}
