// Package rawjson decodes JSON as the API server decodes objects, in one pass
// and with few allocations. It stands where requests come in. It takes only
// what is plain: on anything odd it leaves the document to the decoder of
// Kubernetes, so that nothing is accepted or understood otherwise than there.
package rawjson

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxDepth is how deep plain documents nest. It is far below what decoders
// take, so that the depth of a part never matters.
const maxDepth = 1000

// Decode returns the document as map[string]any, []any, string, bool, int64,
// float64 and nil, as sigs.k8s.io/json decodes it when integers are preserved.
// It returns false for what it leaves to others: invalid JSON, invalid UTF-8,
// surrogates, keys that come twice, numbers out of range and deep nesting. The
// strings share one copy of data, and equal objects may share one map, so that
// the document must not be modified.
func Decode(data []byte) (doc any, ok bool) {
	d := decoders.Get().(*decoder)
	defer d.release()
	d.src = string(data)
	doc, ok = d.value(0)
	if !ok {
		return nil, false
	}
	d.space()
	return doc, d.pos == len(d.src)
}

// decoders keep their stacks for the next document.
var decoders = sync.Pool{New: func() any { return &decoder{words: map[string]any{}, objects: map[string]any{}} }}

// kept is up to how many elements room is kept.
const kept = 1024

// release forgets the document.
func (d *decoder) release() {
	d.src, d.pos, d.empty = "", 0, nil
	if cap(d.keys) > kept || cap(d.values) > kept || len(d.words) > kept || len(d.objects) > kept || cap(d.room) > kept*kept {
		return
	}
	clear(d.keys[:cap(d.keys)])
	clear(d.values[:cap(d.values)])
	clear(d.words)
	clear(d.objects)
	d.keys, d.values = d.keys[:0], d.values[:0]
	decoders.Put(d)
}

// decoder reads one document. The elements of collections that are not yet
// complete lie on its stacks.
type decoder struct {
	src    string
	pos    int
	keys   []string
	values []any
	empty  map[string]any
	room   []byte // for strings with escapes
	// words are short strings that came before: objects repeat them, and each
	// would take memory again as an interface.
	words map[string]any
	// objects are small objects that came before, by their text.
	objects map[string]any
}

// maxWord is the length up to which strings are looked up in words.
const maxWord = 24

func (d *decoder) space() {
	for d.pos < len(d.src) {
		switch d.src[d.pos] {
		case ' ', '\n', '\t', '\r':
			d.pos++
		default:
			return
		}
	}
}

// next returns the first byte that is no space, 0 at the end.
func (d *decoder) next() byte {
	d.space()
	if d.pos == len(d.src) {
		return 0
	}
	return d.src[d.pos]
}

func (d *decoder) value(depth int) (any, bool) {
	if depth > maxDepth {
		return nil, false
	}
	switch c := d.next(); c {
	case '{':
		return d.object(depth)
	case '[':
		return d.array(depth)
	case '"':
		return d.text()
	case 't':
		return true, d.word("true")
	case 'f':
		return false, d.word("false")
	case 'n':
		return nil, d.word("null")
	default:
		return d.number()
	}
}

func (d *decoder) word(w string) bool {
	if !strings.HasPrefix(d.src[d.pos:], w) {
		return false
	}
	d.pos += len(w)
	return true
}

func (d *decoder) object(depth int) (any, bool) {
	start := d.pos
	d.pos++
	if d.next() == '}' {
		d.pos++
		return d.none(), true
	}
	keys, values := len(d.keys), len(d.values)
	for {
		if !d.field(depth) {
			return nil, false
		}
		switch d.next() {
		case ',':
			d.pos++
			d.space()
		case '}':
			d.pos++
			return d.shared(d.src[start:d.pos], keys, values)
		default:
			return nil, false
		}
	}
}

func (d *decoder) none() map[string]any {
	if d.empty == nil {
		d.empty = map[string]any{}
	}
	return d.empty
}

func (d *decoder) field(depth int) bool {
	if d.next() != '"' {
		return false
	}
	key, ok := d.str()
	if !ok || d.next() != ':' {
		return false
	}
	d.pos++
	v, ok := d.value(depth + 1)
	if !ok {
		return false
	}
	d.keys, d.values = append(d.keys, key), append(d.values, v)
	return true
}

// maxShared is the length of text up to which objects are looked for among
// those that came before.
const maxShared = 256

// shared is the object of a text, of which the fields are taken off the stacks:
// the one that was made of the same text before, if there is one. Containers
// of a Pod, and what is written about their fields, have much in common.
func (d *decoder) shared(text string, keys, values int) (any, bool) {
	if len(text) > maxShared {
		return d.fields(keys, values)
	}
	if before, found := d.objects[text]; found {
		d.keys, d.values = d.keys[:keys], d.values[:values]
		return before, true
	}
	out, ok := d.fields(keys, values)
	if ok {
		d.objects[text] = out
	}
	return out, ok
}

// fields takes an object's fields off the stacks.
func (d *decoder) fields(keys, values int) (any, bool) {
	n := len(d.keys) - keys
	out := make(map[string]any, n)
	for i, k := range d.keys[keys:] {
		out[k] = d.values[values+i]
	}
	d.keys, d.values = d.keys[:keys], d.values[:values]
	return out, len(out) == n
}

func (d *decoder) array(depth int) (any, bool) {
	d.pos++
	if d.next() == ']' {
		d.pos++
		return []any{}, true
	}
	values := len(d.values)
	for {
		v, ok := d.value(depth + 1)
		if !ok {
			return nil, false
		}
		d.values = append(d.values, v)
		switch d.next() {
		case ',':
			d.pos++
		case ']':
			d.pos++
			out := append([]any(nil), d.values[values:]...)
			d.values = d.values[:values]
			return out, true
		default:
			return nil, false
		}
	}
}

func (d *decoder) text() (any, bool) {
	s, ok := d.str()
	if !ok || len(s) > maxWord {
		return s, ok
	}
	if boxed, found := d.words[s]; found {
		return boxed, true
	}
	var boxed any = s
	d.words[s] = boxed
	return boxed, true
}

// str reads a string, of which the opening quote is next.
func (d *decoder) str() (string, bool) {
	d.pos++
	start, ascii := d.pos, true
	for i := start; i < len(d.src); i++ {
		switch c := d.src[i]; {
		case c == '"':
			d.pos = i + 1
			s := d.src[start:i]
			return s, ascii || utf8.ValidString(s)
		case c == '\\':
			return d.escaped(start, i)
		case c < ' ':
			return "", false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", false
}

// escaped reads on where a string has its first backslash.
func (d *decoder) escaped(start, i int) (string, bool) {
	d.room = append(d.room[:0], d.src[start:i]...)
	for i < len(d.src) {
		c := d.src[i]
		switch {
		case c == '"':
			d.pos = i + 1
			s := string(d.room)
			return s, utf8.ValidString(s)
		case c < ' ':
			return "", false
		case c != '\\':
			d.room = append(d.room, c)
			i++
			continue
		}
		r, n := unescape(d.src[i:])
		if n == 0 {
			return "", false
		}
		d.room = utf8.AppendRune(d.room, r)
		i += n
	}
	return "", false
}

// simple are the escapes of one letter.
var simple = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape returns the rune that s begins with an escape of, and the length of
// the escape, 0 if it is none or half of a surrogate pair.
func unescape(s string) (r rune, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	if r, ok := simple[s[1]]; ok {
		return r, 2
	}
	if s[1] != 'u' || len(s) < 6 {
		return 0, 0
	}
	for _, c := range []byte(s[2:6]) {
		if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return 0, 0
		}
	}
	code, err := strconv.ParseUint(s[2:6], 16, 16)
	if err != nil || code >= 0xD800 && code < 0xE000 {
		return 0, 0
	}
	return rune(code), 6
}

// number reads a number by JSON's grammar.
func (d *decoder) number() (any, bool) {
	start := d.pos
	if d.peek() == '-' {
		d.pos++
	}
	if d.peek() == '0' {
		d.pos++
	} else if !d.digits() {
		return nil, false
	}
	whole := true
	if d.peek() == '.' {
		d.pos++
		if whole = false; !d.digits() {
			return nil, false
		}
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		d.pos++
		if c := d.peek(); c == '+' || c == '-' {
			d.pos++
		}
		if whole = false; !d.digits() {
			return nil, false
		}
	}
	return numeric(d.src[start:d.pos], whole)
}

func numeric(text string, whole bool) (any, bool) {
	if whole {
		i, err := strconv.ParseInt(text, 10, 64)
		return i, err == nil
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

func (d *decoder) peek() byte {
	if d.pos < len(d.src) {
		return d.src[d.pos]
	}
	return 0
}

func (d *decoder) digits() bool {
	start := d.pos
	for d.peek() >= '0' && d.peek() <= '9' {
		d.pos++
	}
	return d.pos > start
}
