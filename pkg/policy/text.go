package policy

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fusegate/fusegate/pkg/printable"
)

// What is shown of violations at admission. An object can break every constraint
// a thousand times, by policies that quote all of it: the text would take longer
// than the request has, and what is answered too late does not deny. The rest is
// counted. The bounds are in bytes of what is sent.
const (
	// MaxText is of one violation: it is read by people.
	MaxText = 1 << 10
	// MaxConstraintText is of one constraint, so that some fit.
	MaxConstraintText = 4 << 10
	// MaxAnswerText is of a denial: kubectl prints it as a whole, and controllers
	// put it into Events and logs.
	MaxAnswerText = 8 << 10
	// MaxKept is how many violations of one constraint have a text.
	MaxKept = 64

	// maxWarningsText is of all warnings. An API server that has more than 4096
	// characters of them cuts each to shortWarning characters, without a mark,
	// and leaves out what comes last (truncateAtTotalRunes in k8s.io/apiserver
	// pkg/endpoints/filters/warning.go).
	maxWarningsText = 4096
	shortWarning    = 256
	// maxWarnings is how many there are: each is an HTTP header, and clients
	// give up on more than a hundred (_MAXHEADERS in Python's http.client).
	maxWarnings = 32
)

// cut stands at the end of what was cut.
const cut = "..."

// Shorten cuts a message to twice what is shown of it at most, so that it is
// seen that it was cut, and gives up the memory of the rest.
func Shorten(message string) string { return shorten(message, 2*MaxText) }

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return strings.Clone(s[:limit]) + cut
}

// statement is what there is to say of one constraint, or of none.
type statement struct {
	constraint Constraint
	prefix     string // of what is wrong, ours
	text       string
}

// statements are what there is to say, in order, and how much more there is.
type statements struct {
	list []statement
	more []More
}

func (s *statements) add(c Constraint, prefix, text string) {
	s.list = append(s.list, statement{c, prefix, text})
}

// bounds are those of a list of statements.
type bounds struct {
	// text is of one statement, short is of one where not all fit.
	text, short int
	constraint  int
	total       int
	lines       int // 0 for as many as fit
	show        func(s string, limit int) string
}

var (
	denialBounds  = bounds{text: MaxText, short: MaxText, constraint: MaxConstraintText, total: MaxAnswerText, show: printable.TextMax}
	warningBounds = bounds{
		text: MaxText, short: shortWarning, constraint: maxWarningsText, total: maxWarningsText, lines: maxWarnings, show: printable.LineMax,
	}
)

// Warnings are printable, bounded as those of a decision, and the rest counted.
func Warnings(texts []string) []string {
	s := &statements{}
	for _, t := range texts {
		s.add(Constraint{}, "", t)
	}
	return s.lines(warningBounds)
}

// line shows a statement in no more than limit bytes.
func (b bounds) line(s statement, limit int) string {
	// What is not printable takes more room, and white space may take less.
	text := shorten(s.text, 2*limit)
	return b.show(Line(s.constraint, s.prefix+text), limit)
}

// lines are all statements, if they fit, or those of every constraint in turn as
// long as there is room, and how many there are beside.
func (s *statements) lines(b bounds) []string {
	if out, ok := s.all(b); ok {
		return out
	}
	return s.some(b)
}

func (s *statements) all(b bounds) ([]string, bool) {
	if len(s.list)+len(s.more) == 0 {
		return nil, true
	}
	if len(s.more) > 0 || b.lines > 0 && len(s.list) > b.lines {
		return nil, false
	}
	var out []string
	total, by := 0, map[identity]int{}
	for _, x := range s.list {
		line := b.line(x, b.text)
		out, total = append(out, line), total+len(line)+1
		by[x.constraint.identity()] += len(line) + 1
		if total > b.total || by[x.constraint.identity()] > b.constraint {
			return nil, false
		}
	}
	return out, true
}

// identity tells one constraint from another.
type identity struct{ kind, name string }

func (c Constraint) identity() identity { return identity{c.Kind, c.Name} }

// group is what there is to say of one constraint.
type group struct {
	constraint Constraint
	list       []int // of the statements
	shown      int
	more       int
	least      bool
	left       int // bytes
	closed     bool
}

func (g *group) hidden() int { return len(g.list) - g.shown + g.more }

// rest says how many more there are. It is no longer than restRoom and the name.
func (g *group) rest() string {
	return Line(g.constraint, "and "+atLeast(g.least)+count(g.hidden())+" more")
}

const restRoom = len("[] and at least 9,223,372,036,854,775,807 more\n")

func atLeast(is bool) string {
	if is {
		return "at least "
	}
	return ""
}

// groups puts together what concerns one constraint, in order of appearance.
func (s *statements) groups(b bounds) []*group {
	var out []*group
	by := map[identity]*group{}
	of := func(c Constraint) *group {
		g := by[c.identity()]
		if g == nil {
			g = &group{constraint: c, left: b.constraint}
			by[c.identity()], out = g, append(out, g)
		}
		return g
	}
	for i, x := range s.list {
		g := of(x.constraint)
		g.list = append(g.list, i)
	}
	for _, m := range s.more {
		g := of(m.Constraint)
		g.more, g.least = g.more+m.Count, g.least || m.AtLeast
	}
	return out
}

// othersRoom is for the line about constraints of which nothing is shown.
const othersRoom = 2 * restRoom

func (s *statements) some(b bounds) []string {
	groups := s.groups(b)
	lines, picked := make([]string, len(s.list)), make([]bool, len(s.list))
	left, room := b.total-othersRoom, len(s.list)+len(groups)
	if b.lines > 0 {
		room = b.lines - 1
	}
	for open := true; open; {
		open = false
		for _, g := range groups {
			if g.closed || g.shown == len(g.list) {
				continue
			}
			line := b.line(s.list[g.list[g.shown]], b.short)
			size, places := len(line)+1, 1
			if g.shown == 0 { // room for its line about the rest
				size, places = size+len(g.constraint.Name)+restRoom, 2
			}
			if size > left || size > g.left || places > room {
				g.closed = true
				continue
			}
			lines[g.list[g.shown]], picked[g.list[g.shown]] = line, true
			g.shown++
			g.left, left, room, open = g.left-size, left-size, room-places, true
		}
	}
	var out []string
	for i, line := range lines {
		if picked[i] {
			out = append(out, line)
		}
	}
	return append(out, rests(groups)...)
}

// rests count what is not shown: of each constraint that something is shown of,
// and of all others together.
func rests(groups []*group) []string {
	var out []string
	violations, others, least := 0, 0, false
	for _, g := range groups {
		switch {
		case g.hidden() == 0 && !g.least:
		case g.shown > 0:
			out = append(out, g.rest())
		default:
			violations, others, least = violations+g.hidden(), others+1, least || g.least
		}
	}
	if others > 0 {
		out = append(out, fmt.Sprintf("and %s%s more of %s other constraints", atLeast(least), count(violations), count(others)))
	}
	return out
}

// count is a number with commas.
func count(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
