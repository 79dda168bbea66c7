package cost

import (
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// concatenated is a collection of texts with another between them.
func concatenated(c *call) bool {
	size := c.w(1) + times(c.elements(1), len(c.text(0)))
	return c.Work(1+size>>6) && c.Fits(size)
}

// searchedText is every place of one text in another.
func searchedText(c *call) bool {
	text, part := c.text(0), c.text(1)
	if part == "" || !linear(5)(c) {
		return c.Err == nil
	}
	n := times(strings.Count(text, part), len(part)) // they may overlap
	return c.Work(times(len(text), len(part))>>6) && c.Fits(times(n, EntrySize))
}

// replaced is a text with each occurrence of another replaced.
func replaced(c *call) bool {
	text, old, by := c.text(0), c.text(1), c.text(2)
	if !c.Work(1 + (len(text)+len(old))>>5) {
		return false
	}
	return c.Fits(len(text) + times(strings.Count(text, old), len(by)))
}

// replacedMany is a text with each occurrence of any of many replaced.
func replacedMany(c *call) bool {
	texts, ok := c.args[0].Value.(ast.Object)
	if !ok {
		return c.Work(1)
	}
	text, longest, size := c.text(1), 0, len(c.text(1))
	if !c.Work(1 + c.w(0)>>4 + times(texts.Len(), len(text))>>6) {
		return false
	}
	texts.Foreach(func(k, v *ast.Term) {
		old, _ := k.Value.(ast.String)
		by, _ := v.Value.(ast.String)
		longest = max(longest, len(old))
		size += times(strings.Count(text, string(old)), len(by))
	})
	return c.Work(times(len(text), 1+longest)>>4) && c.Fits(size)
}

// split is the parts of a text between occurrences of another.
func split(c *call) bool {
	text, by := c.text(0), c.text(1)
	if !c.Work(1 + len(text)>>5) {
		return false
	}
	n := 1 + strings.Count(text, by)
	return c.Work(n) && c.Fits(len(text)+times(n, EntrySize))
}

// formatted is a text made by a format.
func formatted(c *call) bool {
	list, ok := c.args[1].Value.(*ast.Array)
	if !ok {
		return c.Work(1)
	}
	weights := make([]int, list.Len())
	for i := range weights {
		weights[i] = c.weight(list.Elem(i).Value)
	}
	size := formattedSize(c.text(0), weights)
	return c.Work(1+size>>5) && c.Fits(size)
}

const (
	// maxPad is how far package fmt pads, or rounds, at most.
	maxPad = 1_000_000
	// written is how often text that is written fits into what is written of it:
	// quoted, in hexadecimal with spaces, in binary.
	written = 5
)

// formattedSize is how long what package fmt makes of a format and arguments of
// these weights is at most.
func formattedSize(format string, weights []int) int {
	heaviest, size, at := 0, 2*len(format), 0
	for _, w := range weights {
		heaviest = max(heaviest, w)
	}
	for {
		_, rest, found := strings.Cut(format, "%")
		if !found {
			break
		}
		v := verbOf(rest)
		format = rest[v.length:]
		w := heaviest // whichever it means
		if !v.moves && at < len(weights) {
			w = weights[at]
			at++
		}
		if v.moves {
			at = len(weights)
		}
		size += EntrySize + times(written, w) + v.pad
	}
	for _, w := range weights { // those that are too many are listed
		size += EntrySize + times(written, w)
	}
	return size
}

// verb is one verb of a format, after its percent sign.
type verb struct {
	length int
	// pad is its width and precision.
	pad int
	// moves is set when it says itself which argument it means, or takes some for
	// its width.
	moves bool
}

func verbOf(text string) verb {
	var v verb
	number, inside := 0, false
	for v.length < len(text) {
		ch := text[v.length]
		switch {
		case ch >= '0' && ch <= '9':
			number = min(10*number+int(ch-'0'), maxPad)
		case ch == '[':
			v.moves, inside, number = true, true, 0
		case ch == ']':
			inside, number = false, 0
		case ch == '*':
			v.moves, v.pad, number = true, v.pad+maxPad, 0
		case strings.IndexByte("+-# .", ch) >= 0:
			v.pad, number = v.pad+number, 0
		default:
			if !inside {
				v.pad += number
				_, n := utf8.DecodeRuneInString(text[v.length:])
				v.length += n
				return v
			}
		}
		v.length++
	}
	v.pad += number
	return v
}
