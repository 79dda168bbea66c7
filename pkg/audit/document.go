package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fusegate/fusegate/pkg/rawjson"
)

// documents takes JSON from a stream value by value, so that of a list no more
// than one object has to be in memory. It finds where values end, and leaves it
// to decode what is valid.
type documents struct {
	in *bufio.Reader
	// text is the value that was last taken; the next takes its place.
	text []byte
}

var errNotJSON = errors.New("the API server sent what is no JSON")

// newDocuments reads from in, buffer bytes at a time.
func newDocuments(in io.Reader, buffer int) *documents {
	return &documents{in: bufio.NewReaderSize(in, buffer)}
}

// next returns the first byte that is no space, which is left in the stream.
func (d *documents) next() (byte, error) {
	for {
		c, err := d.in.ReadByte()
		if err != nil {
			return 0, err
		}
		switch c {
		case ' ', '\n', '\t', '\r':
		default:
			return c, d.in.UnreadByte()
		}
	}
}

// skip takes the first byte that is no space, which must be one of these.
func (d *documents) skip(of string) (byte, error) {
	got, err := d.next()
	if err != nil {
		return 0, ended(err)
	}
	for _, want := range []byte(of) {
		if got == want {
			_, err := d.in.Discard(1)
			return got, err
		}
	}
	return 0, fmt.Errorf("%w: %q where there should be one of %q", errNotJSON, got, of)
}

// value takes the next value. What it returns is good until the next call. At
// the end of the stream the error is io.EOF.
func (d *documents) value() ([]byte, error) {
	if cap(d.text) > largeBuffer {
		d.text = nil
	}
	d.text = d.text[:0]
	if _, err := d.next(); err != nil {
		return nil, err
	}
	var s scan
	for {
		chunk, err := d.in.Peek(max(1, d.in.Buffered()))
		if err != nil {
			return nil, ended(err)
		}
		n, done := s.through(chunk)
		d.text = append(d.text, chunk[:n]...)
		if _, err := d.in.Discard(n); err != nil {
			return nil, err
		}
		if done {
			return d.text, nil
		}
	}
}

// ended is err where a value is not complete.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// scan is how far a value has been read.
type scan struct {
	depth           int
	quoted, escaped bool
	begun           bool
}

// through reads on, and returns how much of the text belongs to the value and
// whether it ends there.
func (s *scan) through(text []byte) (n int, done bool) {
	for i, c := range text {
		if s.quoted {
			s.inString(c)
			if !s.quoted && s.depth == 0 {
				return i + 1, true
			}
			continue
		}
		switch c {
		case '"':
			s.quoted = true
		case '{', '[':
			s.depth++
		case '}', ']', ',', ':':
			// A bare word ends where something else begins.
			if s.depth == 0 {
				return i, true
			}
			if c == '}' || c == ']' {
				s.depth--
			}
			if s.depth == 0 {
				return i + 1, true
			}
		case ' ', '\n', '\t', '\r':
			if s.depth == 0 && s.begun {
				return i, true
			}
		}
		s.begun = true
	}
	return len(text), false
}

func (s *scan) inString(c byte) {
	switch {
	case s.escaped:
		s.escaped = false
	case c == '\\':
		s.escaped = true
	case c == '"':
		s.quoted = false
	}
}

// listed takes a list, and hands on each of its items. What each is given is
// good until it returns. The other members are decoded into head.
func (d *documents) listed(head map[string]any, each func(item []byte) error) error {
	if _, err := d.skip("{"); err != nil {
		return err
	}
	for {
		name, err := d.value()
		if err != nil {
			return ended(err)
		}
		field := string(name)
		if _, err := d.skip(":"); err != nil {
			return err
		}
		if field == `"items"` {
			err = d.items(each)
		} else {
			err = d.member(head, field)
		}
		if err != nil {
			return err
		}
		if end, err := d.skip(",}"); err != nil || end == '}' {
			return err
		}
	}
}

func (d *documents) member(head map[string]any, field string) error {
	text, err := d.value()
	if err != nil {
		return ended(err)
	}
	name, err := decode([]byte(field))
	if err != nil {
		return err
	}
	key, ok := name.(string)
	if !ok {
		return fmt.Errorf("%w: %s is no name", errNotJSON, field)
	}
	head[key], err = decode(text)
	return err
}

func (d *documents) items(each func(item []byte) error) error {
	first, err := d.next()
	if err != nil {
		return ended(err)
	}
	if first == 'n' { // null
		_, err := d.value()
		return err
	}
	if _, err := d.skip("["); err != nil {
		return err
	}
	if first, err = d.next(); err == nil && first == ']' {
		_, err = d.skip("]")
		return err
	}
	for {
		text, err := d.value()
		if err != nil {
			return ended(err)
		}
		if err := each(text); err != nil {
			return err
		}
		if end, err := d.skip(",]"); err != nil || end == ']' {
			return err
		}
	}
}

// decode reads a value as the API server does. It must not be modified below
// its top level.
func decode(text []byte) (any, error) {
	if out, ok := rawjson.Decode(text); ok {
		return out, nil
	}
	var out any
	if err := utiljson.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotJSON, err)
	}
	return out, nil
}
