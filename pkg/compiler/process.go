package compiler

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/fusegate/fusegate/pkg/rego"
)

const (
	// patience is how long an answer is waited for at most, whatever else the
	// machine does.
	patience = time.Minute
	// maxVerdicts is how many verdicts are remembered: a template is tried when it
	// is admitted, when it is published and when it is ingested.
	maxVerdicts = 64
)

// Options say how the process is run.
type Options struct {
	// Command makes the command of a process that calls Serve with Memory. Its
	// standard streams are set.
	Command func() *exec.Cmd
	// Memory is the process's limit, in bytes.
	Memory int64
	// Log is told when a process ended over a template.
	Log logr.Logger
}

// Process is a rego.Compiler: one process, started when it is first needed and
// again when a template has ended it, which tries one template after the other. It
// is safe for concurrent use. It is to be closed.
type Process struct {
	o     Options
	turn  chan struct{} // holds one while a template is tried
	tries sync.WaitGroup
	child *child // of who has the turn

	mu       sync.Mutex
	closed   bool
	running  *child
	verdicts []verdict // the last first
}

var _ rego.Compiler = (*Process)(nil)

type verdict struct {
	source [sha256.Size]byte
	err    error
}

// New returns a process that has not been started.
func New(o Options) *Process { return &Process{o: o, turn: make(chan struct{}, 1)} }

// Start starts the process if it does not run, to find out whether it can be.
func (p *Process) Start() error {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	return p.start()
}

// Close ends the process and waits until it has ended. What is being tried gets no
// answer.
func (p *Process) Close() {
	p.mu.Lock()
	p.closed = true
	if p.running != nil {
		p.running.kill()
	}
	p.mu.Unlock()
	p.tries.Wait()
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	if p.child != nil {
		p.end(nil)
	}
}

// Try implements rego.Compiler. Those who come at once are served in their order.
// When ctx ends the trial goes on, and its verdict is there for who asks again.
func (p *Process) Try(ctx context.Context, s *rego.Source) error {
	key := digest(s)
	if v := p.known(key); v != nil {
		return v.err
	}
	if !p.begin() {
		return fmt.Errorf("%w: it was stopped", rego.ErrNoAnswer)
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		p.tries.Done()
		return fmt.Errorf("%w in time: others are before it", rego.ErrNoAnswer)
	}
	done := make(chan error, 1)
	go func() {
		defer p.tries.Done()
		defer func() { <-p.turn }()
		done <- p.try(key, s)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w in time", rego.ErrNoAnswer)
	}
}

// begin counts a trial in, unless there are to be no more.
func (p *Process) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.tries.Add(1)
	}
	return !p.closed
}

func digest(s *rego.Source) [sha256.Size]byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // texts can be written
	}
	return sha256.Sum256(text)
}

func (p *Process) known(key [sha256.Size]byte) *verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.verdicts {
		if v.source == key {
			return &v
		}
	}
	return nil
}

func (p *Process) remember(v verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verdicts = slices.Insert(p.verdicts, 0, v)
	p.verdicts = p.verdicts[:min(len(p.verdicts), maxVerdicts)]
}

// try asks the process, and a new one where another template may have brought it
// to its end.
func (p *Process) try(key [sha256.Size]byte, s *rego.Source) error {
	if v := p.known(key); v != nil {
		return v.err // it was tried while we waited
	}
	for {
		fresh := p.child == nil
		if err := p.start(); err != nil {
			return err
		}
		ds, err := p.child.ask(s)
		if err == nil {
			v := verdict{source: key}
			if len(ds) > 0 {
				v.err = ds
			}
			p.remember(v)
			return v.err
		}
		how := p.end(err)
		if !fresh && !how.overtime() && !p.isClosed() {
			continue
		}
		err = how.verdict(s, p.o.Memory)
		if !errors.Is(err, rego.ErrNoAnswer) {
			p.o.Log.Info("a template exceeded the limits of the compiler", "reason", err.Error())
			p.remember(verdict{key, err})
		}
		return err
	}
}

func (p *Process) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// start starts the process if there is none.
func (p *Process) start() error {
	if p.child != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("%w: it was stopped", rego.ErrNoAnswer)
	}
	c, err := startChild(p.o.Command())
	if err != nil {
		return fmt.Errorf("%w: starting its process: %w", rego.ErrNoAnswer, err)
	}
	p.child, p.running = c, c
	return nil
}

// end ends the process, which has given no answer, and tells how it ended.
func (p *Process) end(why error) ending {
	how := p.child.end()
	how.why = why
	p.mu.Lock()
	defer p.mu.Unlock()
	p.child, p.running = nil, nil
	return how
}

// child is one process.
type child struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	limited *io.LimitedReader
	answers *json.Decoder
	stderr  *head
}

func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, stderr: &head{}}
	cmd.Stderr = c.stderr
	detach(cmd)
	var err error
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.limited = &io.LimitedReader{R: stdout}
	c.answers = json.NewDecoder(c.limited)
	return c, cmd.Start()
}

// errPatience says that no answer came in time.
var errPatience = fmt.Errorf("there was none within %v", patience)

// ask has a template tried. An error means that the process is of no more use.
func (c *child) ask(s *rego.Source) (rego.Diagnostics, error) {
	c.limited.N = maxAnswer
	late := time.AfterFunc(patience, c.kill)
	err := json.NewEncoder(c.stdin).Encode(request{Source: s})
	var a answer
	if err == nil {
		err = c.answers.Decode(&a)
	}
	if !late.Stop() {
		return nil, errPatience
	}
	return a.Diagnostics, err
}

func (c *child) kill() { _ = c.cmd.Process.Kill() }

// end lets the process end by itself, if it is about to, and waits for that.
func (c *child) end() ending {
	_ = c.stdin.Close()
	late := time.AfterFunc(time.Second, c.kill)
	defer late.Stop()
	_ = c.cmd.Wait()
	return ending{code: c.cmd.ProcessState.ExitCode(), state: c.cmd.ProcessState.String(), stderr: c.stderr.String()}
}

// ending is how a process ended. The code is -1 for one that was killed.
type ending struct {
	why    error
	code   int
	state  string
	stderr string
}

func (e ending) overtime() bool { return e.code == exitTime || errors.Is(e.why, errPatience) }

// verdict is what the end of the process says about the template it was over. That
// it was killed says nothing: the kernel does that when others take too much memory.
func (e ending) verdict(s *rego.Source, memory int64) error {
	switch {
	case errors.Is(e.why, errPatience):
		return fmt.Errorf("%w: %w", rego.ErrNoAnswer, e.why)
	case e.code == exitTime:
		return tooLong(s)
	case e.code == exitMemory, strings.Contains(e.stderr, "out of memory"), strings.Contains(e.stderr, "cannot allocate memory"):
		return tooLarge(memory)
	case e.code == goCrash:
		return crashed(e.stderr)
	}
	return fmt.Errorf("%w: its process ended (%s) %s", rego.ErrNoAnswer, e.state, e.stderr)
}

// maxHead is how much is kept of what a process writes to its standard error, in
// bytes: the first lines say why it ended.
const maxHead = 300

// head keeps the beginning of what is written to it.
type head struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Write(p[:min(len(p), maxHead-h.text.Len())])
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(strings.Fields(h.text.String()), " ")
}
