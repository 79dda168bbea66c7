package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestStopped logs errors before and after the process was told to stop.
func TestStopped(t *testing.T) {
	cut := fmt.Errorf("writing: %w", context.Canceled)
	for name, tc := range map[string]struct {
		reason  string
		err     error
		running bool
		want    bool
	}{
		"Cut":      {reason: "who is told to stop is cut off", err: cut},
		"Text":     {reason: "so is who was reading an answer", err: errors.New("unexpected error when reading response body. Original error: context canceled")},
		"Leader":   {reason: "who stops gives up its Lease", err: errors.New(leaderLost)},
		"Running":  {reason: "while it runs that is an error", err: cut, running: true, want: true},
		"Deposed":  {reason: "so is losing the Lease", err: errors.New(leaderLost), running: true, want: true},
		"Trouble":  {reason: "other errors count to the end", err: errors.New("disk full"), want: true},
		"Nameless": {reason: "so do those without one", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			out := &bytes.Buffer{}
			log := logger(settings{}, out)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			log = stopped(ctx, log).WithName("part").WithValues("key", "value")
			if !tc.running {
				stop()
			}
			log.Error(tc.err, "it went wrong")
			if got := strings.Contains(out.String(), `"level":"error"`); got != tc.want {
				t.Errorf("%s: got log %q, want an error: %t", tc.reason, out, tc.want)
			}
		})
	}
}
