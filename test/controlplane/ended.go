package controlplane

import (
	"fmt"
	"os"
	"regexp"
	"time"
)

// EndedError says how a component ended that nobody asked to.
type EndedError struct {
	// Component is its name, as for ControlPlane.Log.
	Component string
	// Err is an *exec.ExitError, or tells of the exit status 0.
	Err error
	// Reason is what the component gave as the reason: the last line of its
	// log at the severity fatal, or that of an error it ended with, without
	// what comes before the message. It is empty if there is none, as when it
	// was killed.
	Reason string
	// After is how long it ran.
	After time.Duration
}

// Error names the component and all that is known.
func (e *EndedError) Error() string {
	text := fmt.Sprintf("%s ended after %.1f s: %s", e.Component, e.After.Seconds(), e.Err)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Unwrap returns Err.
func (e *EndedError) Unwrap() error { return e.Err }

// end describes the end of a process; done is closed.
func (p *process) end() *EndedError {
	return &EndedError{Component: p.name, Err: p.err, Reason: lastReason(p.output()), After: p.ended.Sub(p.started)}
}

// output is what this process has logged, and its predecessors have not. A log
// that cannot be read gives no reason and no other harm.
func (p *process) output() []byte {
	content, err := os.ReadFile(p.log)
	if err != nil || int64(len(content)) < p.offset {
		return nil
	}
	return content[p.offset:]
}

// final matches the lines with which Kubernetes components, and Go programs in
// general, say why they end: klog's header at the severity fatal, the error of
// a command (k8s.io/component-base/cli/run.go), a panic. Stack traces follow.
var final = regexp.MustCompile(`(?m)^(?:F\d{4} [\d:.]+ +\d+ \S+\] |E\d{4} [\d:.]+ +\d+ run\.go:\d+\] |Error: |panic: |fatal error: )(.*)$`)

// lastReason is the message of the last such line, or "".
func lastReason(log []byte) string {
	matches := final.FindAllSubmatch(log, -1)
	if len(matches) == 0 {
		return ""
	}
	return string(matches[len(matches)-1][1])
}
