package app

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/fusegate/fusegate/pkg/output"
)

// isTerminal tells whether somebody is looking at w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// styleOf is how w is written to: in colours if it is a terminal that has some,
// and nobody objects (https://no-color.org).
func styleOf(w io.Writer) output.Style {
	return output.Style{Color: isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// What does not take long needs no progress: after quiet, a terminal is told
// every blink, and a log every beat.
const (
	quiet = time.Second
	blink = 200 * time.Millisecond
	beat  = 10 * time.Second
)

// progress tells how far a command has come. It may be used concurrently.
type progress struct {
	w        io.Writer
	terminal bool
	start    time.Time

	mu    sync.Mutex
	last  time.Time
	shown bool
}

func newProgress(w io.Writer) *progress {
	now := time.Now()
	return &progress{w: w, terminal: isTerminal(w), start: now, last: now}
}

// say shows a line, in place of the one before it if this is a terminal, unless
// it is too early for another.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	pause := beat
	if p.terminal {
		pause = blink
	}
	if now.Sub(p.start) < quiet || now.Sub(p.last) < pause {
		return
	}
	p.last, p.shown = now, true
	text := fmt.Sprintf(format, args...)
	if p.terminal {
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", text)
		return
	}
	_, _ = fmt.Fprintf(p.w, "%s after %v\n", text, now.Sub(p.start).Round(time.Second))
}

// end takes the line away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.shown {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}
