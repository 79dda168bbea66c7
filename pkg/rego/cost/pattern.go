package cost

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
)

// Pattern is a compiled regular expression.
type Pattern struct {
	*regexp.Regexp
	// size is how many instructions it has, about.
	size int
}

const (
	// maxPattern is how large a pattern may be when its repetitions are written
	// out: about 4 MiB.
	maxPattern = 50_000
	// maxPatterns and maxPatternSizes are how many patterns are kept, and how
	// large all together are. More of them come from objects, or from parameters
	// nobody uses any more: all are forgotten then.
	maxPatterns     = 2_000
	maxPatternSizes = 10 * maxPattern
)

// compiledPatterns are those of all policies.
var compiledPatterns struct {
	sync.RWMutex
	byText map[string]*Pattern
	sizes  int
}

// Pattern returns a pattern, compiled: nil if it does not compile, or if that
// exceeds what is granted. Compiling it counts once in an evaluation, whether or
// not it was compiled before it.
func (m *Meter) Pattern(text string) *Pattern {
	if p := m.patterns[text]; p != nil {
		return p
	}
	work := parsing(text)
	if !m.Work(work) || !m.Fits(times(work, EntrySize)) {
		return nil
	}
	compiledPatterns.RLock()
	p := compiledPatterns.byText[text]
	compiledPatterns.RUnlock()
	if p == nil {
		p = m.compile(text)
	}
	if p == nil || !m.Work(4*p.size) {
		return nil
	}
	if m.patterns == nil {
		m.patterns = map[string]*Pattern{}
	}
	if len(m.patterns) < maxPatterns {
		m.patterns[text] = p
	}
	return p
}

// compile compiles a pattern once it knows its size.
func (m *Meter) compile(text string) *Pattern {
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil
	}
	size := instructions(tree)
	if size > maxPattern {
		m.Exceed("a regular expression is larger than %d instructions", maxPattern)
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil
	}
	p := &Pattern{Regexp: re, size: size}
	keep(text, p)
	return p
}

func keep(text string, p *Pattern) {
	compiledPatterns.Lock()
	defer compiledPatterns.Unlock()
	if len(compiledPatterns.byText) >= maxPatterns || compiledPatterns.sizes > maxPatternSizes || compiledPatterns.byText == nil {
		compiledPatterns.byText, compiledPatterns.sizes = map[string]*Pattern{}, 0
	}
	compiledPatterns.byText[text] = p
	compiledPatterns.sizes += p.size + len(text)/EntrySize
}

// parsing is the work of parsing a pattern: its letters, the classes that stand
// for hundreds of ranges, and ranges that are folded letter by letter.
func parsing(text string) int {
	work := 1 + len(text)
	work += times(500, strings.Count(text, `\p`)+strings.Count(text, `\P`))
	if strings.Contains(text, "(?") && (strings.Contains(text, `\`) || strings.ContainsFunc(text, func(r rune) bool { return r > 127 })) {
		work += times(5000, strings.Count(text, "-"))
	}
	return work
}

// instructions is how many a pattern has with its repetitions written out.
func instructions(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)/8
	if re.Op == syntax.OpLiteral {
		n = 1 + len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	if re.Op == syntax.OpCapture || re.Op == syntax.OpStar || re.Op == syntax.OpPlus {
		n += 2
	}
	if re.Op == syntax.OpRepeat {
		n = times(n, 1+max(re.Min, re.Max))
	}
	return min(n, 2*maxPattern)
}

// Matching counts the work of looking for a pattern in a text of that length:
// all that its instructions can do with each letter.
func (m *Meter) Matching(p *Pattern, length int) bool {
	return m.Work(1 + times(1+length, 1+p.size)>>4)
}

// Groups counts the work of finding at most n matches, all if n is negative, with
// their groups, and tells whether they fit.
func (m *Meter) Groups(p *Pattern, text string, n int) bool {
	groups := 1 + p.NumSubexp()
	if !m.Matching(p, len(text)) || !m.Work(times(1+len(text), p.size, groups)>>8) || !m.Fits(times(2*p.size, groups, 16)) {
		return false
	}
	return m.Fits(times(m.matches(p, text, n, 2+groups), 2+groups, EntrySize))
}

// matches is how many matches there are at most. They are counted if it matters:
// if as many as there are letters, each of so many entries, would not fit.
func (m *Meter) matches(p *Pattern, text string, n, entries int) int {
	most := 1 + len(text)
	if n >= 0 {
		most = min(most, n)
	}
	room := max(m.Limits.Bytes-m.Bytes, 0)/times(entries, EntrySize) + 1 // which is one too many
	if most < room {
		return most
	}
	return len(p.FindAllStringIndex(text, min(most, room)))
}

// matched asks whether a text matches a pattern.
func matched(c *call) bool {
	p := c.Pattern(c.text(0))
	if p == nil {
		return c.Err == nil && c.Work(1)
	}
	return c.Matching(p, len(c.text(1)))
}

func compiled(c *call) bool {
	c.Pattern(c.text(0))
	return c.Err == nil && c.Work(1)
}

// found is all matches of a pattern, or what lies between them.
func found(c *call) bool {
	p := c.Pattern(c.text(0))
	if p == nil {
		return c.Err == nil && c.Work(1)
	}
	n := -1
	if len(c.args) > 2 {
		n = int(max(min(c.float(2), maxPad), -1))
	}
	if n == maxPad {
		n = -1
	}
	return c.Groups(p, c.text(1), n)
}

// rewritten is a text with all matches of a pattern replaced.
func rewritten(c *call) bool {
	text, by := c.text(0), c.text(2)
	p := c.Pattern(c.text(1))
	if p == nil {
		return c.Err == nil && c.Work(1)
	}
	if !c.Groups(p, text, -1) {
		return false
	}
	n := c.matches(p, text, -1, 1+len(by)/EntrySize)
	size := len(text) + times(n, len(by)) + times(strings.Count(by, "$"), len(text))
	return c.Fits(size) && c.Work(size>>6+n)
}

// templateMatched matches a text with a pattern between delimiters, which may
// repeat as often as the largest number in it says, and never over a thousand
// times.
func templateMatched(c *call) bool {
	text := c.text(0)
	size := len(text) + 1
	if strings.ContainsAny(text, "{") && strings.ContainsAny(text, "0123456789") {
		size = times(size, 1+largest(text))
	}
	if !c.Work(parsing(text)) {
		return false
	}
	if size > 20*maxPattern {
		return c.Exceed("a regular expression is larger than %d instructions", maxPattern)
	}
	return c.Work(4*size) && c.Fits(times(size, EntrySize)) && c.Work(times(1+len(c.text(1)), size)>>4)
}

// largest is the largest number in a text, a thousand at most.
func largest(text string) int {
	most, number := 0, 0
	for i := range len(text) {
		if ch := text[i]; ch >= '0' && ch <= '9' {
			number = min(10*number+int(ch-'0'), 1000)
			most = max(most, number)
			continue
		}
		number = 0
	}
	return most
}

// globsMatched asks whether anything matches two globs: each star or plus of
// either may end at each of the other's letters.
func globsMatched(c *call) bool {
	n, flags := 2, 0
	for i := range 2 {
		letters, repeated := globLetters(c.text(i))
		n, flags = n+letters, flags+repeated
	}
	return c.Work(1 + len(c.text(0)) + len(c.text(1)) + power(n, flags+1)>>4)
}

// globLetters counts what a glob matches letter by letter, a class being one,
// and how many of these may be repeated.
func globLetters(glob string) (letters, repeated int) {
	class := false
	for i := 0; i < len(glob); i++ {
		switch ch := glob[i]; {
		case ch == '\\':
			i++
			letters++
		case ch == '[':
			class = true
		case ch == ']':
			class = false
			letters++
		case class:
		case ch == '*' || ch == '+':
			repeated++
		default:
			letters++
		}
	}
	return letters, repeated
}

// globMatched asks whether a text matches a glob, of which every star and every
// alternative may begin at each letter.
func globMatched(c *call) bool {
	glob, text := c.text(0), c.text(2)
	alternatives := separators(glob, "{,")
	pairs := times(1+len(glob), 1+len(text))
	return c.Work(1+times(pairs, 1+alternatives)>>5+len(glob)) && c.Fits(times(pairs, 1+alternatives)) && c.elements(1) < maxPad
}
