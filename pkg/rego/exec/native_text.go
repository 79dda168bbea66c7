package exec

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// text1 is a builtin from a string to a string.
func text1(convert func(string) string) native1 {
	return func(s *state, a any) (any, bool) {
		text, ok := a.(string)
		if !ok {
			return nil, false
		}
		if !s.read(text) || !s.Fits(3*len(text)) { // a letter may become a longer one
			return nil, false
		}
		return s.text(a, text, convert(text))
	}
}

// text2 is a builtin from two strings to a string.
func text2(convert func(text, other string) string) native2 {
	return func(s *state, a, b any) (any, bool) {
		text, ok := a.(string)
		if !ok {
			return nil, false
		}
		other, ok := b.(string)
		if !ok {
			return nil, false
		}
		if !s.read(text) || !s.read(other) {
			return nil, false
		}
		return s.text(a, text, convert(text, other))
	}
}

// text is a new string as a value: the old one, where nothing changed.
func (s *state) text(old any, before, after string) (any, bool) {
	if before == after {
		return old, true
	}
	return after, s.Grow(len(after))
}

// test2 is a builtin from two strings to a boolean.
func test2(holds func(text, other string) bool) native2 {
	return func(s *state, a, b any) (any, bool) {
		text, ok := a.(string)
		if !ok {
			return nil, false
		}
		other, ok := b.(string)
		if !ok {
			return nil, false
		}
		return holds(text, other), s.read(text)
	}
}

// toNumber knows numbers and their text. What is no number is OPA's to refuse.
func toNumber(_ *state, a any) (any, bool) {
	text, ok := a.(string)
	if !ok {
		return a, value.KindOf(a) == value.KindNumber
	}
	if len(text) == 0 || len(text) > maxNumber || strings.ContainsFunc(text, notOfNumbers) {
		return nil, false
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil {
		return nil, false
	}
	number, err := ast.NumberChecked(text)
	return value.ParseNumber(string(number)), err == nil
}

// maxNumber is the length of text up to which numbers are parsed here.
const maxNumber = 40

// notOfNumbers keeps the spellings that only Go knows, such as 0x1p-2, 1_000 and
// inf, away.
func notOfNumbers(r rune) bool { return !strings.ContainsRune("0123456789.eE+-", r) }

func split(s *state, a, b any) (any, bool) {
	text, ok := a.(string)
	if !ok {
		return nil, false
	}
	sep, ok := b.(string)
	if !ok {
		return nil, false
	}
	n := strings.Count(text, sep)
	if !s.read(text) || !s.Grow(n*cost.EntrySize) || !s.Work(n>>2) {
		return nil, false
	}
	if n == 0 {
		return &value.Array{Elems: []any{a}}, true
	}
	parts := strings.Split(text, sep)
	elems := make([]any, len(parts))
	for i, p := range parts {
		elems[i] = p
	}
	return &value.Array{Elems: elems}, true
}

// concat joins strings; a set's in their order.
func concat(s *state, a, b any) (any, bool) {
	sep, ok := a.(string)
	if !ok {
		return nil, false
	}
	elems, ok := value.Elems(b)
	if set, isSet := b.(*value.Set); isSet {
		elems, ok = s.sorted(set)
	}
	if !ok {
		return nil, false
	}
	size := 0
	for _, e := range elems {
		text, ok := e.(string)
		if !ok {
			return nil, false
		}
		size += len(text) + len(sep)
	}
	if !s.Grow(size) || !s.Work((len(elems)+size>>4)>>2) {
		return nil, false
	}
	return join(elems, sep, size), true
}

func join(elems []any, sep string, size int) string {
	if len(elems) == 1 {
		return elems[0].(string)
	}
	var b strings.Builder
	b.Grow(size)
	for i, e := range elems {
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(e.(string))
	}
	return b.String()
}

func replaceText(s *state, a, b, c any) (any, bool) {
	text, ok := a.(string)
	if !ok {
		return nil, false
	}
	from, ok := b.(string)
	if !ok {
		return nil, false
	}
	to, ok := c.(string)
	if !ok {
		return nil, false
	}
	if from == "" || !s.read(text) || !s.Fits(len(text)+strings.Count(text, from)*len(to)) {
		return nil, false
	}
	return s.text(a, text, strings.ReplaceAll(text, from, to))
}

// sprintf knows %v and %s, but for numbers that are no integers: those are for
// OPA. Collections are shown as it shows them.
func sprintf(s *state, a, b any) (any, bool) {
	format, ok := a.(string)
	if !ok {
		return nil, false
	}
	args, ok := value.Elems(b)
	if !ok {
		return nil, false
	}
	room := make([]byte, 0, 256)
	used := 0
	for {
		before, after, found := strings.Cut(format, "%")
		if !s.Fits(len(room) + len(before)) {
			return nil, false
		}
		room = append(room, before...)
		if !found {
			break
		}
		if after == "" || used == len(args) {
			return nil, false
		}
		if room, ok = s.write(room, after[0], args[used]); !ok {
			return nil, false
		}
		used++
		format = after[1:]
	}
	if used != len(args) {
		return nil, false
	}
	return string(room), s.Grow(len(room))
}

func (s *state) write(out []byte, verb byte, arg any) ([]byte, bool) {
	switch arg := arg.(type) {
	case string:
		if !s.read(arg) || !s.Fits(len(out)+len(arg)) {
			return nil, false
		}
		if verb == 'q' {
			return s.quoted(out, arg)
		}
		return append(out, arg...), verb == 'v' || verb == 's'
	case int64:
		return strconv.AppendInt(out, arg, 10), verb == 'v' || verb == 'd'
	case bool: // which OPA formats as a string
		return strconv.AppendBool(out, arg), verb == 'v' || verb == 's'
	case nil, float64, ast.Number, json.Number:
		return out, false
	}
	if verb != 'v' && verb != 's' {
		return out, false
	}
	w := value.Weight(arg)
	if !s.Work(1+w>>5) || !s.Fits(len(out)+w) {
		return nil, false
	}
	t := s.term(arg)
	if t == nil {
		return nil, false
	}
	return append(out, t.Value.String()...), true
}

func regexMatch(s *state, a, b any) (any, bool) {
	pattern, ok := a.(string)
	if !ok {
		return nil, false
	}
	text, ok := b.(string)
	if !ok {
		return nil, false
	}
	re := s.Pattern(pattern)
	if re == nil || !s.Matching(re, len(text)) {
		return nil, false
	}
	return re.MatchString(text), true
}

// submatches are the positions of at most n matches.
func submatches(re *regexp.Regexp, text string, n int) [][]int {
	if n != 1 {
		return re.FindAllStringSubmatchIndex(text, n)
	}
	if at := re.FindStringSubmatchIndex(text); at != nil {
		return [][]int{at}
	}
	return nil
}

// groupsOf are the groups of one match; those that took no part are empty.
func groupsOf(text string, at []int) any {
	groups := make([]any, len(at)/2)
	for i := range groups {
		groups[i] = ""
		if from := at[2*i]; from >= 0 {
			groups[i] = text[from:at[2*i+1]]
		}
	}
	return groups
}

// findSubmatches gives each match of a pattern as an array of its groups.
func findSubmatches(s *state, a, b, c any) (any, bool) {
	pattern, ok := a.(string)
	if !ok {
		return nil, false
	}
	text, ok := b.(string)
	if !ok {
		return nil, false
	}
	n, ok := c.(int64)
	if !ok || !small(n) {
		return nil, false
	}
	re := s.Pattern(pattern)
	if re == nil || !s.Groups(re, text, int(n)) {
		return nil, false
	}
	var matches []any
	for _, at := range submatches(re.Regexp, text, int(n)) {
		matches = append(matches, groupsOf(text, at))
	}
	return matches, s.Grow(len(matches) * (re.NumSubexp() + 2) * cost.EntrySize)
}

// quoted appends text as Go writes it.
func (s *state) quoted(out []byte, text string) ([]byte, bool) {
	if !s.Fits(len(out) + 4*len(text)) {
		return nil, false
	}
	return strconv.AppendQuote(out, text), true
}
