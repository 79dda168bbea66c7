package audit

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
)

// session is one go at a kind: it is read as a whole, and followed from there.
type session struct {
	k      *kind
	tasks  sync.WaitGroup
	events chan event
	// done tells the end of the reading that is under way, nil if none is.
	done chan error
	// due tells that the kind is to be read anew as a whole, which resync says.
	due    bool
	resync clock.Timer
	// again is when to try next to watch what cannot be watched.
	again time.Duration
	// read tells that the kind has been read as a whole, and held that it was
	// watched for a while.
	read, held bool
}

// session reads the kind as a whole and follows it from there. It returns when
// all that has to be done again, and whether it went well until then.
func (k *kind) session(parent context.Context) (well bool, err error) {
	ctx, cancel := context.WithCancel(parent)
	s := &session{k: k, events: make(chan event, buffered), resync: k.a.o.Clock.NewTimer(jitter(k.a.o.Resync)), again: k.a.o.Timings.AuditReadMax}
	defer func() { cancel(); s.tasks.Wait(); s.resync.Stop(); k.broken() }()
	select { // what was said of the last session does not count any more
	case old := <-k.lost:
		k.a.o.Log.V(1).Info("reading a kind anew", "kind", k.gvk.String(), "reason", old.Error())
	default:
	}
	s.start(ctx, k.begin("", nil))
	err = s.loop(ctx)
	return s.read && (s.held || !unwatched(err)), err
}

// start has a reading made. That of the whole kind begins a watch if there is
// none.
func (s *session) start(ctx context.Context, r *reading) {
	done := make(chan error, 1)
	s.done = done
	s.tasks.Go(func() {
		done <- s.k.read(ctx, r, func(version string) {
			if r.whole() && s.k.found() {
				s.tasks.Go(func() { s.k.follow(ctx, version, s.events) })
			}
		})
	})
}

// loop takes events, and has read again what needs to be, one thing after the
// other.
func (s *session) loop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-s.events:
			if err := s.take(ctx, e); err != nil {
				return err
			}
			continue
		case err := <-s.k.lost:
			return err
		case err := <-s.done:
			if err != nil {
				return err
			}
			s.done, s.read = nil, true
		case <-s.k.wake.C():
		case <-s.resync.C():
			if s.k.stuck() {
				return nil
			}
			s.due = true
		}
		s.proceed(ctx)
	}
}

// proceed reads what is wanted, once what is being read is.
func (s *session) proceed(ctx context.Context) {
	if s.done != nil {
		return
	}
	r := s.k.next(s.due)
	if r == nil {
		return
	}
	if r.whole() {
		s.due = false
		s.resync.Reset(jitter(s.k.a.o.Resync))
	}
	s.start(ctx, r)
}

// take takes an event. The end of a watch ends the session, unless there could be
// none at all: then the kind is read now and then, and a watch tried each time.
func (s *session) take(ctx context.Context, e event) error {
	switch {
	case e.err == nil:
		if !s.held {
			s.held = true
			s.k.holds()
		}
		if e.kind != holding {
			s.k.take(ctx, e)
		}
	case s.held || expired(e.err):
		return e.err
	default:
		s.k.refuse(e.err)
		s.resync.Reset(jitter(min(s.again, s.k.a.o.Resync)))
		s.again = min(2*s.again, max(s.again, s.k.a.o.Resync))
	}
	return nil
}

// found notes that the kind can be listed, if only its beginning, and tells
// whether a watch is to be begun.
func (k *kind) found() (begin bool) {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.readable, k.a.stirred = true, true
	if !k.watched || k.watching {
		return false
	}
	k.watching = true
	k.followed = k.problem == nil && k.refused == nil
	return true
}

// holds notes that the kind is watched indeed. What happened before the list that
// the watch goes on from is known when that has been read.
func (k *kind) holds() {
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	k.sees = true
	for r := range k.active {
		if r.whole() {
			return
		}
	}
	if k.refused != nil {
		k.mended()
		k.touchAll()
	}
}

// refuse notes why the kind cannot be watched, though it can be read.
func (k *kind) refuse(err error) {
	k.erred(err)
	if apierrors.IsNotFound(err) {
		k.a.lookAgain()
	}
	k.a.mu.Lock()
	defer k.a.mu.Unlock()
	if k.refused == nil {
		k.a.o.Log.Error(err, "kind cannot be watched; reading it now and then", "kind", k.gvk.String())
	}
	k.refused, k.followed, k.watching, k.a.stirred = err, false, false, true
	k.touchAll()
}

// mended notes that the kind has been read as a whole: only now it is known that
// it can be, since a list may fail at any page. The caller holds the lock.
func (k *kind) mended() {
	if k.problem != nil {
		k.a.o.Log.Info("kind audited again", "kind", k.gvk.String())
	}
	k.problem, k.since, k.overdue, k.readable = nil, zeroTime, false, true
	if k.sees {
		k.refused = nil
	}
	k.followed, k.a.stirred = k.watching && k.refused == nil, true
}

// unwatched tells that it is a watch that failed, and not a list.
func unwatched(err error) bool {
	f := (*failure)(nil)
	return errors.As(err, &f) && f.verb == verbWatch
}

// expired tells that a watch cannot go on where it was: what it was to tell is
// forgotten.
func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }
