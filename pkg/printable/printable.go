// Package printable makes text from users fit to be shown. Names, images, labels,
// messages of policies and errors of others come from whoever wrote them, and end in
// a status, a report, an Event, a log, an HTTP header or a terminal. There, a
// character that nobody sees makes a text lie about itself, and some are refused:
// the API server reads what is applied as YAML, which has no control characters, so
// that one of them in a message keeps a whole status from being written.
//
// What is not printable is replaced by an escape that a reader sees, spelt as JSON
// does: \u009b, and \udb40\udc01 beyond U+FFFF. So an escape inside of a JSON text
// still stands for the character. Not printable are
//
//   - control characters: C0, DEL and C1,
//   - format characters: those that turn the direction of writing, the joiners, the
//     soft hyphen, the byte order mark, tags,
//   - the separators of lines and paragraphs, U+2028 and U+2029,
//   - what else is not shown at all (Other_Default_Ignorable_Code_Point), and
//     noncharacters.
//
// Bytes that are not UTF-8 become U+FFFD. Line breaks and tabs are for each function
// to say. Every function leaves clean text alone, without allocating; what it
// returns is clean.
//
// It holds pure functions and imports nothing of Fusegate. What writes to a sink calls
// it, once for everything that goes there; who words a message does not.
package printable

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// ellipsis marks text that was cut.
const ellipsis = "..."

// lineBreak is what Line puts in the place of a line break.
const lineBreak = " / "

// hidden are the characters that are replaced.
var hidden = []*unicode.RangeTable{
	unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp,
	unicode.Other_Default_Ignorable_Code_Point, unicode.Noncharacter_Code_Point,
}

// Text makes s printable and keeps line breaks and tabs: for statuses and the
// messages of denials, which have lines.
func Text(s string) string { return rewrite(s, true, math.MaxInt) }

// TextMax is Text of at most limit bytes. What is longer ends with an ellipsis, after
// a whole character or escape.
func TextMax(s string, limit int) string { return rewrite(s, true, limit) }

// Line makes s one printable line: for cells of tables, warnings (which are HTTP
// headers), Events and logs. White space around line breaks becomes " / ", or nothing
// at either end of s, and a tab becomes a space.
func Line(s string) string { return rewrite(oneLine(s), false, math.MaxInt) }

// LineMax is Line of at most limit bytes. What is longer ends with an ellipsis, after
// a whole character or escape.
func LineMax(s string, limit int) string { return rewrite(oneLine(s), false, limit) }

// oneLine has no line breaks and no tabs.
func oneLine(s string) string {
	if strings.IndexByte(s, '\n') >= 0 {
		var lines []string
		for line := range strings.SplitSeq(s, "\n") {
			if line = strings.Trim(line, " \t\r"); line != "" {
				lines = append(lines, line)
			}
		}
		s = strings.Join(lines, lineBreak)
	}
	return strings.ReplaceAll(s, "\t", " ")
}

// rewrite replaces what is hidden in s, and cuts what would be longer than limit.
func rewrite(s string, lines bool, limit int) string {
	first := firstHidden(s, lines)
	if first == len(s) || first > limit {
		return cut(s, limit)
	}
	var b strings.Builder
	b.WriteString(s[:first])
	end := boundary(s[:first], limit-len(ellipsis)) // where to cut, if need be
	for rest := s[first:]; rest != "" && b.Len() <= limit; {
		if b.Len() <= limit-len(ellipsis) {
			end = b.Len()
		}
		r, size := utf8.DecodeRuneInString(rest)
		writeRune(&b, r, lines)
		rest = rest[size:]
	}
	if b.Len() <= limit {
		return b.String()
	}
	return mark(b.String()[:end], limit)
}

// firstHidden is where the first character starts that is not printable, or the
// length of s.
func firstHidden(s string, lines bool) int {
	for i := 0; i < len(s); {
		if c := s[i]; ' ' <= c && c <= '~' {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || !stays(r, lines) {
			return i
		}
		i += size
	}
	return len(s)
}

// stays reports whether r is printable.
func stays(r rune, lines bool) bool {
	if r <= unicode.MaxASCII {
		return ' ' <= r && r <= '~' || lines && (r == '\n' || r == '\t')
	}
	return !unicode.In(r, hidden...)
}

func writeRune(b *strings.Builder, r rune, lines bool) {
	switch {
	case stays(r, lines): // bytes that are no UTF-8 were decoded as U+FFFD
		b.WriteRune(r)
	case r > 0xFFFF:
		high, low := utf16.EncodeRune(r)
		fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
	default:
		fmt.Fprintf(b, `\u%04x`, r)
	}
}

// cut shortens clean text to limit bytes.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return mark(s[:boundary(s, limit-len(ellipsis))], limit)
}

// mark says that text was cut, if there is room for that.
func mark(s string, limit int) string {
	if limit < len(ellipsis) {
		return s
	}
	return s + ellipsis
}

// boundary is the last start of a character in s that is at most limit.
func boundary(s string, limit int) int {
	if len(s) <= limit {
		return len(s)
	}
	limit = max(limit, 0)
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return limit
}
