package app

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// leaving is a handler whose answers, once it is on its way out, close the
// connection: in HTTP/1.1 at once, in HTTP/2 as soon as what is in flight is
// answered.
type leaving struct {
	http.Handler
	soon atomic.Bool
	lull time.Duration // see timing.Timings.Lull
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
		timer := time.NewTimer(l.lull)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-late.Done():
		}
		cancel()
	})
	return late, func() { release(); cancel() }
}
