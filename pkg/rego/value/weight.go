package value

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	// EntryWeight is what any value counts for in a Weight, in bytes.
	EntryWeight = 64
	// MaxWeight is what no weight exceeds: more is as good as infinite, and sums
	// and products of a few weights still fit an int. A step for each 128 bytes of it
	// is more than any evaluation is granted.
	MaxWeight = 1 << 30
)

// Weight is roughly the bytes that v would take if nothing in it were shared:
// what writing it down, comparing or hashing it costs. Collections that policies
// build know theirs after the first time; documents are gone through.
func Weight(v any) int {
	switch v := v.(type) {
	case string:
		return EntryWeight + len(v)
	case ast.Number:
		return NumberWeight(string(v))
	case json.Number:
		return NumberWeight(string(v))
	case *Array:
		if v.weight == 0 {
			v.weight = weightOf(v.Elems)
		}
		return v.weight
	case *Set:
		if v.weight == 0 {
			v.weight = weightOf(v.elems)
		}
		return v.weight
	case *Object:
		if v.weight == 0 {
			v.weight = v.weigh()
		}
		return v.weight
	case []any:
		return weightOf(v)
	case *Path:
		return v.weigh()
	case map[string]any:
		sum := EntryWeight
		for k, e := range v {
			if sum += EntryWeight + len(k) + Weight(e); sum >= MaxWeight {
				break
			}
		}
		return min(sum, MaxWeight)
	case Mapping:
		sum := EntryWeight
		v.Range(func(k string, e any) bool {
			sum += EntryWeight + len(k) + Weight(e)
			return sum < MaxWeight
		})
		return min(sum, MaxWeight)
	}
	return EntryWeight
}

func weightOf(elems []any) int {
	sum := EntryWeight
	for i := 0; i < len(elems) && sum < MaxWeight; i++ {
		sum = min(sum+Weight(elems[i]), MaxWeight)
	}
	return sum
}

func (o *Object) weigh() int {
	sum := EntryWeight
	for i := 0; i < len(o.fields) && sum < MaxWeight; i++ {
		sum = min(sum+Weight(o.fields[i].key)+Weight(o.fields[i].value), MaxWeight)
	}
	return sum
}

// weigh does not put the elements together.
func (p *Path) weigh() int {
	sum := EntryWeight
	for at := p; at != nil && sum < MaxWeight; at = at.parent {
		sum = min(sum+Weight(at.last), MaxWeight)
	}
	return sum
}

// NumberWeight is the weight of a number with this text. Comparing it may take
// time that grows with the square of its digits.
func NumberWeight(text string) int {
	d := Digits(text)
	if d <= plainDigits {
		return EntryWeight + d
	}
	return min(EntryWeight+d+d*d>>8, MaxWeight)
}

// plainDigits is the length up to which numbers take no time.
const plainDigits = 40

// Digits is how long a number with this text is when its exponent is written
// out, as arithmetic does.
func Digits(text string) int {
	at := strings.IndexAny(text, "eEpP")
	if at < 0 {
		return len(text)
	}
	exponent, err := strconv.Atoi(text[at+1:])
	if err != nil || exponent > MaxWeight || exponent < -MaxWeight {
		return MaxWeight
	}
	return min(len(text)+max(exponent, -exponent), MaxWeight)
}

// Size is about how many bytes decoded JSON takes as text, without white space.
func Size(v any) int {
	switch v := v.(type) {
	case string:
		return len(v) + len(`"",`)
	case map[string]any:
		size := len("{},")
		for k, e := range v {
			size += len(k) + len(`"":`) + Size(e)
		}
		return size
	case []any:
		size := len("[],")
		for _, e := range v {
			size += Size(e)
		}
		return size
	case bool, nil:
		return len("true,")
	}
	text, _ := NumberText(v)
	return len(text) + len(",")
}
