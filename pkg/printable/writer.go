package printable

import (
	"errors"
	"io"
	"slices"
	"unicode/utf8"
)

// NewWriter returns a writer that makes what is written to it printable, keeps line
// breaks and tabs, and passes it on to w: for JSON, YAML, XML and other text that is
// already laid out. In JSON the meaning of what is written stays the same. Close
// writes what an unfinished character has left, and leaves w open.
//
// It is not safe for concurrent use.
func NewWriter(w io.Writer) io.WriteCloser { return &streamWriter{w: w} }

type streamWriter struct {
	w io.Writer
	// rest is the start of a character whose end has not been written yet.
	rest []byte
}

// Write never tells of less than it was given, unless w fails.
func (s *streamWriter) Write(p []byte) (int, error) {
	text := slices.Concat(s.rest, p)
	whole := len(text) - unfinished(text)
	s.rest = append([]byte(nil), text[whole:]...)
	if _, err := io.WriteString(s.w, Text(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close implements io.Closer.
func (s *streamWriter) Close() error {
	rest := s.rest
	s.rest = nil
	_, err := io.WriteString(s.w, Text(string(rest)))
	return err
}

// unfinished is how many bytes at the end of p may begin a character that goes on.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if start := p[len(p)-n:]; utf8.RuneStart(start[0]) {
			if utf8.FullRune(start) {
				return 0
			}
			return n
		}
	}
	return 0
}

// Copy has write write to w through NewWriter.
func Copy(w io.Writer, write func(io.Writer) error) error {
	out := NewWriter(w)
	return errors.Join(write(out), out.Close())
}
