package compiler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/fusegate/fusegate/pkg/rego"
)

// Why Serve ends: the end of its input, and templates.
var (
	errEnded  = errors.New("the input has ended")
	errTime   = errors.New("compiling takes too much processor time")
	errMemory = errors.New("compiling takes too much memory")
)

// ExitCode is what the process is to end with, at once, when Serve has returned err:
// what is being compiled cannot be interrupted.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errTime):
		return exitTime
	case errors.Is(err, errMemory):
		return exitMemory
	}
	return exitFailed
}

// watchEvery is how often a compilation is compared with its limits.
const watchEvery = 10 * time.Millisecond

// Serve is the process: it answers requests from in on out until in ends, which it
// does when the process ends that asks, or until a template exceeds a limit. It
// confines the whole process to memory, in bytes: by the garbage collector first,
// then by looking, and by the kernel in the end.
func Serve(in io.Reader, out io.Writer, memory int64) error {
	heap := memory - ownMemory
	debug.SetMemoryLimit(heap * 3 / 4)
	debug.SetMaxStack(int(heap / 2))
	runtime.GOMAXPROCS(2) // for itself and its garbage; reviews need the others
	if err := confine(heap); err != nil {
		return fmt.Errorf("limiting the compiler: %w", err)
	}
	requests, ended := read(in)
	answers := json.NewEncoder(out)
	for {
		select {
		case err := <-ended:
			return good(err)
		case r := <-requests:
			a, err := try(r, heap, ended)
			if err != nil {
				return good(err)
			}
			if err := answers.Encode(a); err != nil {
				return fmt.Errorf("answering: %w", err)
			}
		}
	}
}

// good makes no error of the end of the input.
func good(err error) error {
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

// read reads requests until there are no more. It goes on meanwhile, so that the
// end of who asks is noticed whatever is being compiled.
func read(in io.Reader) (<-chan request, <-chan error) {
	requests, ended := make(chan request), make(chan error, 1)
	go func() {
		for from := json.NewDecoder(in); ; {
			var r request
			err := from.Decode(&r)
			if errors.Is(err, io.EOF) {
				ended <- errEnded
				return
			}
			if err != nil || r.Source == nil {
				ended <- fmt.Errorf("reading a request: %w", err)
				return
			}
			requests <- r
		}
	}()
	return requests, ended
}

// try compiles in a goroutine, which goes on if a limit ends the process.
func try(r request, heap int64, ended <-chan error) (answer, error) {
	done := make(chan error, 1)
	until := processorTime() + timeFor(r.Source)
	go func() { done <- rego.Try(context.Background(), r.Source) }()
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	for {
		select {
		case err := <-done:
			return answerOf(err)
		case err := <-ended:
			return answer{}, err
		case <-watch.C:
			if processorTime() > until {
				return answer{}, errTime
			}
			if inUse() > heap {
				return answer{}, errMemory
			}
		}
	}
}

func answerOf(err error) (answer, error) {
	var ds rego.Diagnostics
	if err != nil && !errors.As(err, &ds) {
		return answer{}, err
	}
	return answer{Diagnostics: brief(ds)}, nil
}

// inUse is how much memory Go has from the system, in bytes.
func inUse() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64()) - int64(samples[1].Value.Uint64())
}
