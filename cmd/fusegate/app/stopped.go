package app

import (
	"context"
	"errors"
	"strings"

	"github.com/go-logr/logr"
)

// stopped returns a logger that, once ctx has ended, logs nothing but details of
// what goes wrong because of that: the libraries that a process is made of tell
// as errors that they were cut off, and that they are not the leader any more.
func stopped(ctx context.Context, log logr.Logger) logr.Logger {
	return log.WithSink(stoppedSink{log.GetSink(), ctx})
}

type stoppedSink struct {
	logr.LogSink
	ctx context.Context
}

// leaderLost is what controller-runtime says of a leader that has given up its
// Lease as it was told to (pkg/manager/internal.go, OnStoppedLeading).
const leaderLost = "leader election lost"

func (s stoppedSink) Error(err error, msg string, values ...any) {
	if s.ctx.Err() == nil || err == nil || !cutOff(err) && err.Error() != leaderLost {
		s.LogSink.Error(err, msg, values...)
		return
	}
	if s.Enabled(1) {
		s.Info(1, msg, append(values, "reason", err.Error())...)
	}
}

// cutOff tells whether an error is the end of a context. client-go keeps only the
// text of that where an answer was cut off (rest/request.go).
func cutOff(err error) bool {
	return errors.Is(err, context.Canceled) || strings.Contains(err.Error(), context.Canceled.Error())
}

func (s stoppedSink) WithValues(values ...any) logr.LogSink {
	return stoppedSink{s.LogSink.WithValues(values...), s.ctx}
}

func (s stoppedSink) WithName(name string) logr.LogSink {
	return stoppedSink{s.LogSink.WithName(name), s.ctx}
}
