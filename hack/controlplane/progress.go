package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"time"
)

// Packages are counted silently between two reports: on a terminal the line
// changes in place, elsewhere (a CI log) a line now and then is enough.
const (
	terminalInterval = 200 * time.Millisecond
	logInterval      = 15 * time.Second
)

// importPath matches what "go build -v" prints for each package it compiles.
// Everything else it prints is for the reader: compiler errors, "# package"
// headings, downloads.
var importPath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~/-]*$`)

// progress counts the packages in go build's output and passes on the rest.
// It is an io.Writer for the command and prints from a goroutine of its own,
// which close waits for.
type progress struct {
	out      io.Writer
	name     string
	terminal bool
	start    time.Time

	mu       sync.Mutex
	partial  []byte // the line that has no newline yet
	compiled int
	left     *remaining // guarded by mu while the command runs

	quit, done chan struct{}
}

// newProgress starts reporting on f under the name of the binary.
func newProgress(f *os.File, name string, left *remaining) *progress {
	p := &progress{
		out: f, name: name, terminal: isTerminal(f), start: time.Now(), left: left,
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	interval := logInterval
	if p.terminal {
		interval = terminalInterval
	}
	go p.report(interval)
	return p
}

// isTerminal reports whether f is a character device, the closest the standard
// library comes to the question. /dev/null counts, which does no harm.
func isTerminal(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// Write takes go build's output, in any portions.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.partial = append(p.partial, b...)
	for {
		i := bytes.IndexByte(p.partial, '\n')
		if i < 0 {
			return len(b), nil
		}
		p.line(p.partial[:i])
		p.partial = p.partial[i+1:]
	}
}

// line counts a package or shows anything else. The caller holds the lock.
func (p *progress) line(l []byte) {
	if importPath.Match(l) {
		p.compiled++
		p.left.compiled(string(l))
		return
	}
	p.erase()
	fmt.Fprintf(p.out, "%s\n", l)
}

// close stops the reports and prints the last one.
func (p *progress) close(ok bool) {
	close(p.quit)
	<-p.done

	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.partial) > 0 {
		p.line(p.partial)
	}
	p.erase()
	outcome := "built"
	if !ok {
		outcome = "failed"
	}
	fmt.Fprintf(p.out, "%s, %s\n", p.state(), outcome)
}

func (p *progress) report(interval time.Duration) {
	defer close(p.done)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
			p.show()
		}
	}
}

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		p.erase()
		fmt.Fprint(p.out, p.state()+p.left.estimate())
		return
	}
	fmt.Fprintln(p.out, p.state()+p.left.estimate())
}

// erase clears the line that changes in place. The caller holds the lock.
func (p *progress) erase() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func (p *progress) state() string {
	return fmt.Sprintf("%s: %d packages compiled, %d s",
		p.name, p.compiled, int(time.Since(p.start).Seconds()))
}
