package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

const (
	pollInterval = 50 * time.Millisecond
	probeTimeout = 5 * time.Second
	// gracePeriod is how long an API server that is stopped alone may take to
	// finish its requests. Watches would keep it for a minute.
	gracePeriod = 5 * time.Second
	// tailLines is how much of a log an error quotes.
	tailLines = 20
)

// process is a component that was started.
type process struct {
	name, log string
	// offset is the size that the log had before.
	offset  int64
	cmd     *exec.Cmd
	started time.Time
	// done is closed when the process has been waited for; what follows is
	// valid then.
	done  chan struct{}
	err   error
	ended time.Time
}

// spawner runs functions on one OS thread that lives as long as this process.
// On Linux the death signal of a child is sent when the thread that created it
// ends, not the process (prctl(2), PR_SET_PDEATHSIG); Go ends threads when a
// goroutine that locked one returns, which would take the child down at a
// random moment. Hence this goroutine never returns.
var spawner = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})

// Spawn starts the command such that it does not outlive this process, in a
// process group of its own. After waiting for the command the caller calls
// release.
func Spawn(cmd *exec.Cmd) (release func(), err error) {
	done := make(chan struct{})
	spawner() <- func() {
		defer close(done)
		release, err = startGuarded(cmd)
	}
	<-done
	return release, err
}

// environment is what components and kubectl see: nothing of the user's
// proxies, Kubernetes contexts or feature switches.
func environment(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home}
}

// launch starts a component. Its output is appended to the log.
func launch(name, path, dir, log string, args []string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()

	former, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the size of the log of %s: %w", name, err)
	}
	p := &process{
		name: name, log: log, offset: former.Size(),
		cmd: exec.Command(path, args...), started: time.Now(), done: make(chan struct{}),
	}
	p.cmd.Dir, p.cmd.Env = dir, environment(dir)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	release, err := Spawn(p.cmd)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go p.wait(release)
	return p, nil
}

// wait reaps the process. Whoever stops it waits for done, and thus for this.
func (p *process) wait(release func()) {
	defer close(p.done)
	if p.err = p.cmd.Wait(); p.err == nil {
		p.err = errors.New("exit status 0")
	}
	p.ended = time.Now()
	release()
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process at once; done tells when. It is safe on one that has
// ended, as os.Process knows whether its id is still its own.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// stop asks the process to end, kills it when the grace period or the context
// is over, and waits for the end.
func (p *process) stop(ctx context.Context) {
	_ = p.cmd.Process.Signal(terminate)
	grace := time.NewTimer(gracePeriod)
	defer grace.Stop()
	select {
	case <-p.done:
		return
	case <-grace.C:
	case <-ctx.Done():
	}
	p.kill()
	<-p.done
}

// await repeats the probe until it succeeds, the process ends or the context
// is done. The errors of the latter two quote the log.
func (p *process) await(ctx context.Context, probe func(context.Context) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := bounded(ctx, probe)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.quote(p.end())
		case <-ctx.Done():
			return p.quote(fmt.Errorf("waiting for %s: %w (%w)", p.name, context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}

func bounded(ctx context.Context, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return probe(ctx)
}

// quote adds the end of the log, which may be gone when the error is read.
func (p *process) quote(err error) error {
	content, readErr := os.ReadFile(p.log)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return fmt.Errorf("%w\nthe last lines of its log:\n%s", err, lastLines(content, tailLines))
}

// lastLines returns at most n lines from the end.
func lastLines(content []byte, n int) []byte {
	content = bytes.TrimRight(content, "\n")
	start := len(content)
	for range n {
		if start = bytes.LastIndexByte(content[:start], '\n'); start < 0 {
			return content
		}
	}
	return content[start+1:]
}
