package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// maxDocument bounds one document. The API server takes no object of more than
// 3 MiB, so that only lists are longer.
const maxDocument = 64 << 20

var (
	errTooLarge = fmt.Errorf("this document has more than %d MiB: put \"---\" between the objects, or give them in several files", maxDocument>>20)
	errUTF16    = errors.New("is written in UTF-16: save it as UTF-8")
)

// document is the text of one, and the line of the file that it starts at.
type document struct {
	text []byte
	line int
}

// documents splits a stream at the lines that separate YAML documents. Text is
// the caller's.
func documents(in io.Reader) iter.Seq2[document, error] {
	return func(yield func(document, error) bool) {
		s := &splitter{in: bufio.NewReaderSize(in, 64<<10), yield: yield}
		s.next = document{line: 1}
		if head, _ := s.in.Peek(2); bytes.Equal(head, []byte{0xFE, 0xFF}) || bytes.Equal(head, []byte{0xFF, 0xFE}) {
			yield(document{}, errUTF16)
			return
		}
		if head, _ := s.in.Peek(3); bytes.Equal(head, []byte{0xEF, 0xBB, 0xBF}) {
			_, _ = s.in.Discard(3)
		}
		s.run()
	}
}

type splitter struct {
	in    *bufio.Reader
	yield func(document, error) bool
	next  document
	// number is that of the line being read.
	number int
	// dropped says that the document is too large and its rest is thrown away.
	dropped bool
}

func (s *splitter) run() {
	start := true // of a line: ReadSlice gives long ones in pieces
	for {
		piece, err := s.in.ReadSlice('\n')
		if start {
			s.number++
		}
		if start && isSeparator(piece) {
			if !s.flush() {
				return
			}
			piece = s.begin(piece)
		}
		s.add(piece)
		if errors.Is(err, bufio.ErrBufferFull) {
			start = false
			continue
		}
		start = true
		if errors.Is(err, io.EOF) {
			s.flush()
			return
		}
		if err != nil {
			s.yield(document{line: s.number}, err)
			return
		}
	}
}

// begin starts a document at a separator and returns what of the line belongs
// to it.
func (s *splitter) begin(line []byte) []byte {
	s.next = document{line: s.number}
	s.dropped = false
	if line[0] == '.' {
		return []byte("\n")
	}
	return line[len("---"):]
}

func (s *splitter) add(piece []byte) {
	if s.dropped {
		return
	}
	if len(s.next.text)+len(piece) > maxDocument {
		s.dropped, s.next.text = true, nil
		return
	}
	s.next.text = append(s.next.text, piece...)
}

// flush yields the document that has ended.
func (s *splitter) flush() bool {
	if s.dropped {
		return s.yield(s.next, errTooLarge)
	}
	doc := s.next.trimmed()
	if len(doc.text) == 0 {
		return true
	}
	return s.yield(doc, nil)
}

// isSeparator tells whether a line separates documents: three dashes, or the
// three dots that end one, with nothing or a blank after them.
func isSeparator(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("---")) && !bytes.HasPrefix(line, []byte("...")) {
		return false
	}
	return len(line) == 3 || bytes.IndexByte([]byte(" \t\r\n"), line[3]) >= 0
}

// trimmed takes off blank lines, comments and directives before the content, so
// that line is the line of the content. A document of nothing else is empty.
func (d document) trimmed() document {
	for len(d.text) > 0 {
		line, rest, more := bytes.Cut(d.text, []byte("\n"))
		content := bytes.TrimSpace(line)
		if len(content) > 0 && content[0] != '#' && line[0] != '%' {
			return d
		}
		d.text = rest
		if more {
			d.line++
		}
	}
	return document{line: d.line}
}
