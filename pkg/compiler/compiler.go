// Package compiler tries whether the Rego of templates compiles, in a process of
// its own with limits of time and memory. OPA's compiler has none: 599 bytes can
// keep its type checker busy for hours, and it cannot be interrupted. A process can
// be ended, and costs nobody else anything.
//
// The engine has every template tried here before it compiles it itself, so that
// what it compiles is known to stay within the limits. Nothing but what is wrong
// with the Rego comes back: what compiled Rego is made of would take as long to
// read as to make, and be one more format to trust.
package compiler

import (
	"fmt"
	"time"

	"github.com/fusegate/fusegate/pkg/printable"
	"github.com/fusegate/fusegate/pkg/rego"
)

const (
	// baseTime is how much processor time a template may take to compile, and
	// timePerMiB how much more for each MiB of Rego. The library's templates take
	// some milliseconds, and ordinary Rego a second for a MiB.
	baseTime   = time.Second
	timePerMiB = 4 * time.Second

	// ownMemory is what the process takes of its memory before it compiles
	// anything.
	ownMemory = 32 << 20
	// MinMemory is the least memory that the process works with, in bytes.
	MinMemory = 64 << 20
	// DefaultMemory is what it is to have where there is enough, in bytes.
	DefaultMemory = 192 << 20
)

// The exit codes of the process, which tell why it ended.
const (
	exitFailed = 1
	exitTime   = 3
	exitMemory = 4
	// goCrash is that of a Go program which panics or whose runtime ends it.
	goCrash = 2
)

const (
	// maxDiagnostics is how many errors of a template are handed back, and
	// maxMessage how long each may be, in bytes: OPA writes out the types that do
	// not match.
	maxDiagnostics = 100
	maxMessage     = 4 << 10
	// maxAnswer is the longest answer that is read, in bytes.
	maxAnswer = 4 << 20
)

// request is what the process is asked, one JSON document after the other on its
// standard input.
type request struct {
	Source *rego.Source `json:"source"`
}

// answer is what it says on its standard output.
type answer struct {
	Diagnostics rego.Diagnostics `json:"diagnostics,omitempty"`
}

// timeFor is how much processor time a template may take to compile.
func timeFor(s *rego.Source) time.Duration {
	return baseTime + time.Duration(float64(size(s))/(1<<20)*float64(timePerMiB))
}

// size of the Rego, in bytes.
func size(s *rego.Source) int {
	n := len(s.Rego)
	for _, lib := range s.Libs {
		n += len(lib)
	}
	return n
}

// fix is what the author of a template that exceeds a limit can do.
const fix = "simplify its Rego: nested comprehensions, rules or functions that use another one twice, and chains of with double the work at every step"

func tooLong(s *rego.Source) error {
	return limit("its Rego takes more than %v of processor time to compile, which is the limit for its size; %s", timeFor(s).Round(100*time.Millisecond), fix)
}

func tooLarge(memory int64) error {
	return limit("its Rego takes more than %d MiB of memory to compile, which is the limit; %s", (memory-ownMemory)>>20, fix)
}

func crashed(how string) error {
	return limit("its Rego ends the compiler (%s); %s", printable.LineMax(how, 200), fix)
}

func limit(format string, args ...any) error {
	return rego.Diagnostics{{Code: rego.CodeLimit, Message: fmt.Sprintf(format, args...)}}
}

// brief cuts what is handed back.
func brief(ds rego.Diagnostics) rego.Diagnostics {
	if more := len(ds) - maxDiagnostics; more > 0 {
		ds = append(ds[:maxDiagnostics:maxDiagnostics], rego.Diagnostic{
			Code: ds[maxDiagnostics].Code, Message: fmt.Sprintf("and %d more errors", more),
		})
	}
	for i := range ds {
		if len(ds[i].Message) > maxMessage {
			ds[i].Message = printable.TextMax(ds[i].Message, maxMessage)
		}
	}
	return ds
}
