package exec

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fusegate/fusegate/pkg/rego/cost"
	"github.com/fusegate/fusegate/pkg/rego/value"
)

// Native builtins say, beside the value, whether they know what to do with
// these arguments. What they do not know, wrong types above all, is left to
// OPA's implementation, and so are all errors.
type (
	native1 func(s *state, a any) (v any, known bool)
	native2 func(s *state, a, b any) (v any, known bool)
	native3 func(s *state, a, b, c any) (v any, known bool)
)

var natives1 = map[string]native1{
	"count":       count,
	"type_name":   typeName,
	"lower":       text1(strings.ToLower),
	"upper":       text1(strings.ToUpper),
	"trim_space":  text1(strings.TrimSpace),
	"to_number":   toNumber,
	"sort":        sortElems,
	"object.keys": objectKeys,
	"any":         anyTrue,
	"all":         allTrue,
	"is_null":     is(value.KindNull),
	"is_boolean":  is(value.KindBool),
	"is_number":   is(value.KindNumber),
	"is_string":   is(value.KindString),
	"is_array":    is(value.KindArray),
	"is_object":   is(value.KindObject),
	"is_set":      is(value.KindSet),
	"walk":        walkValue,
	"ceil":        whole,
	"floor":       whole,
	"round":       whole,
}

var natives2 = map[string]native2{
	"equal":             func(s *state, a, b any) (any, bool) { return s.equals(a, b) },
	"neq":               func(s *state, a, b any) (any, bool) { same, ok := s.equals(a, b); return !same, ok },
	"lt":                comparison(func(c int) bool { return c < 0 }),
	"lte":               comparison(func(c int) bool { return c <= 0 }),
	"gt":                comparison(func(c int) bool { return c > 0 }),
	"gte":               comparison(func(c int) bool { return c >= 0 }),
	"plus":              plus,
	"minus":             minus,
	"mul":               times,
	"div":               divide,
	"rem":               remainder,
	"startswith":        test2(strings.HasPrefix),
	"endswith":          test2(strings.HasSuffix),
	"contains":          test2(strings.Contains),
	"trim":              text2(strings.Trim),
	"trim_left":         text2(strings.TrimLeft),
	"trim_right":        text2(strings.TrimRight),
	"trim_prefix":       text2(strings.TrimPrefix),
	"trim_suffix":       text2(strings.TrimSuffix),
	"split":             split,
	"concat":            concat,
	"sprintf":           sprintf,
	"regex.match":       regexMatch,
	"re_match":          regexMatch,
	"array.concat":      arrayConcat,
	"internal.member_2": member,
	"and":               intersect,
	"or":                unite,
	"numbers.range":     numbersRange,
}

var natives3 = map[string]native3{
	"object.get":        objectGet,
	"replace":           replaceText,
	"array.slice":       arraySlice,
	"internal.member_3": memberWithKey,

	"regex.find_all_string_submatch_n": findSubmatches,
}

// native is the call of a builtin without OPA where that is possible, nil if it
// never is.
func native(b *builtin) exec {
	switch len(b.args) {
	case 1:
		if fn := natives1[b.name]; fn != nil {
			return b.native1(fn)
		}
	case 2:
		if fn := natives2[b.name]; fn != nil {
			return b.native2(fn)
		}
	case 3:
		if fn := natives3[b.name]; fn != nil {
			return b.native3(fn)
		}
	}
	return nil
}

func (b *builtin) native1(fn native1) exec {
	x := b.args[0]
	return func(f *frame) ctl {
		a := x.get(f)
		if a == nil {
			return undefined
		}
		if !f.unfolded(a) {
			return failed
		}
		v, known := fn(f.state, a)
		return b.finish(f, v, known)
	}
}

func (b *builtin) native2(fn native2) exec {
	x, y := b.args[0], b.args[1]
	return func(f *frame) ctl {
		a, c := x.get(f), y.get(f)
		if a == nil || c == nil {
			return undefined
		}
		if !f.unfolded(a) || !f.unfolded(c) {
			return failed
		}
		v, known := fn(f.state, a, c)
		return b.finish(f, v, known)
	}
}

func (b *builtin) native3(fn native3) exec {
	x, y, z := b.args[0], b.args[1], b.args[2]
	return func(f *frame) ctl {
		a, c, d := x.get(f), y.get(f), z.get(f)
		if a == nil || c == nil || d == nil {
			return undefined
		}
		if !f.unfolded(a) || !f.unfolded(c) || !f.unfolded(d) {
			return failed
		}
		v, known := fn(f.state, a, c, d)
		return b.finish(f, v, known)
	}
}

func (b *builtin) finish(f *frame, v any, known bool) ctl {
	if !known {
		if f.Err != nil {
			return failed
		}
		return b.run(f)
	}
	f.locals[b.target] = v
	return next
}

func is(kind value.Kind) native1 {
	return func(_ *state, a any) (any, bool) { return value.KindOf(a) == kind, true }
}

func typeName(_ *state, a any) (any, bool) {
	switch value.KindOf(a) {
	case value.KindNull:
		return "null", true
	case value.KindBool:
		return "boolean", true
	case value.KindNumber:
		return "number", true
	case value.KindString:
		return "string", true
	case value.KindArray:
		return "array", true
	case value.KindObject:
		return "object", true
	case value.KindSet:
		return "set", true
	}
	return nil, false
}

// comparison is a builtin that tells something of the order of two values.
func comparison(holds func(c int) bool) native2 {
	return func(s *state, a, b any) (any, bool) {
		if !(plain(a) && plain(b)) && !s.beside(a, b) {
			return nil, false
		}
		return holds(value.Compare(a, b)), true
	}
}

func count(s *state, a any) (any, bool) {
	if text, ok := a.(string); ok {
		return int64(utf8.RuneCountInString(text)), s.read(text)
	}
	n, ok := value.Len(a)
	return int64(n), ok
}

// small tells whether OPA counts i among the numbers that fit in 32 bits.
func small(i int64) bool { return -1<<31 < i && i < 1<<31 }

// exact tells whether sums of i and others like it cannot overflow.
func exact(i int64) bool { return -1<<62 < i && i < 1<<62 }

// integer is the integer that a number stands for, where it can be told
// without rounding: as such, or as text like 64e3. Zero as text may be
// negative, and is left to OPA.
func integer(v any) (int64, bool) {
	if i, ok := v.(int64); ok {
		return i, exact(i)
	}
	text, ok := value.NumberText(v)
	if !ok {
		return 0, false
	}
	digits, exponent, _ := strings.Cut(string(text), "e")
	i, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || i == 0 {
		return 0, false
	}
	if exponent != "" {
		return scaled(i, strings.TrimPrefix(exponent, "+"))
	}
	return i, exact(i) && len(digits) == len(text)
}

// scaled is i times a power of ten.
func scaled(i int64, exponent string) (int64, bool) {
	n, err := strconv.ParseUint(exponent, 10, 8)
	if err != nil || n > 18 {
		return 0, false
	}
	for range n {
		if i > 1<<58 || i < -1<<58 {
			return 0, false
		}
		i *= 10
	}
	return i, exact(i)
}

func ints(a, b any) (x, y int64, ok bool) {
	x, ok = integer(a)
	if !ok {
		return 0, 0, false
	}
	y, ok = integer(b)
	return x, y, ok
}

func plus(_ *state, a, b any) (any, bool) {
	x, y, ok := ints(a, b)
	return x + y, ok
}

func times(_ *state, a, b any) (any, bool) {
	x, y, ok := ints(a, b)
	if !ok || x == 0 || y == 0 {
		return int64(0), ok
	}
	product := x * y
	return product, product/y == x && exact(product)
}

// divide knows the quotients that are whole. OPA makes others, and those of
// zero, of floats.
func divide(_ *state, a, b any) (any, bool) {
	x, y, ok := ints(a, b)
	if !ok || x == 0 || y == 0 || x%y != 0 {
		return nil, false
	}
	return x / y, true
}

func remainder(_ *state, a, b any) (any, bool) {
	x, y, ok := ints(a, b)
	if !ok || y == 0 {
		return nil, false
	}
	return x % y, true
}

// whole is a builtin that leaves whole numbers as they are.
func whole(_ *state, a any) (any, bool) {
	i, ok := a.(int64)
	return a, ok && exact(i)
}

func minus(s *state, a, b any) (any, bool) {
	if x, y, ok := ints(a, b); ok {
		return x - y, true
	}
	return sets(s, a, b, func(x, y, out *value.Set) {
		for _, v := range x.Elems() {
			if !y.Has(v) {
				out.Add(v)
			}
		}
	})
}

func intersect(s *state, a, b any) (any, bool) {
	return sets(s, a, b, func(x, y, out *value.Set) {
		if y.Len() < x.Len() {
			x, y = y, x // whose spelling of equal numbers stays is OPA's choice
		}
		for _, v := range x.Elems() {
			if y.Has(v) {
				out.Add(v)
			}
		}
	})
}

func unite(s *state, a, b any) (any, bool) {
	return sets(s, a, b, func(x, y, out *value.Set) {
		for _, v := range x.Elems() {
			out.Add(v)
		}
		for _, v := range y.Elems() {
			out.Add(v)
		}
	})
}

func sets(s *state, a, b any, combine func(x, y, out *value.Set)) (any, bool) {
	x, ok := a.(*value.Set)
	if !ok {
		return nil, false
	}
	y, ok := b.(*value.Set)
	if !ok {
		return nil, false
	}
	if !s.Work(x.Len()+y.Len()+(value.Weight(x)+value.Weight(y))>>7) || !s.Fits((x.Len()+y.Len())*cost.EntrySize) {
		return nil, false
	}
	out := value.NewSet()
	combine(x, y, out)
	return out, s.Grow(out.Len() * cost.EntrySize)
}
