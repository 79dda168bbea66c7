package cost

import (
	"math"
	"math/bits"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// call is one call of a builtin.
type call struct {
	*Meter
	args []*ast.Term
}

// w is the weight of an operand.
func (c *call) w(i int) int {
	if i >= len(c.args) {
		return 0
	}
	return c.weight(c.args[i].Value)
}

// all is the weight of all operands.
func (c *call) all() int {
	sum := 0
	for i := range c.args {
		sum += c.w(i)
	}
	return sum
}

// text is an operand, empty if it is no text: the builtin will refuse it.
func (c *call) text(i int) string {
	if i < len(c.args) {
		if text, ok := c.args[i].Value.(ast.String); ok {
			return string(text)
		}
	}
	return ""
}

// magnitude is the size of a number, without its sign.
func (c *call) magnitude(i int) float64 { return math.Abs(c.float(i)) }

func (c *call) float(i int) float64 {
	if i < len(c.args) {
		if n, ok := c.args[i].Value.(ast.Number); ok {
			f, _ := strconv.ParseFloat(string(n), 64) // out of range is infinite, which exceeds everything
			return f
		}
	}
	return 0
}

// elements is how many elements a collection has.
func (c *call) elements(i int) int {
	switch v := c.args[i].Value.(type) {
	case *ast.Array:
		return v.Len()
	case ast.Set:
		return v.Len()
	case ast.Object:
		return v.Len()
	}
	return 1
}

// most is what no product exceeds: more than any limit, however it is divided.
const most = 1 << 48

// times is a product that is no more than most.
func times(factors ...int) int {
	product := 1
	for _, f := range factors {
		switch {
		case f <= 0:
			return 0
		case product > most/f:
			product = most
		default:
			product *= f
		}
	}
	return product
}

// power is a to the power of n, most at most.
func power(a, n int) int {
	product := 1
	for range min(n, 64) {
		product = times(product, a)
	}
	return product
}

// nodes is how many values there are in a weight, at most.
func nodes(weight int) int { return weight / EntrySize }

// free is a call that takes the same time whatever its operands.
func free(c *call) bool { return c.Work(1) }

// linear is a call that goes through its operands a few times and gives at most
// that many times their weight.
func linear(grown int) check {
	return func(c *call) bool {
		w := c.all()
		return c.Work(1+w>>5) && c.Fits(times(grown, w))
	}
}

// keyed is a call that looks these operands up.
func keyed(operands ...int) check {
	return func(c *call) bool {
		w := 0
		for _, i := range operands {
			w += c.w(i)
		}
		return c.Work(1 + w>>6)
	}
}

// compared is a call that goes through two values side by side.
func compared(c *call) bool {
	if len(c.args) < 2 || plain(c.args[0].Value) && plain(c.args[1].Value) {
		return c.Work(1)
	}
	w := min(c.w(0), c.w(1))
	if a, ok := c.args[0].Value.(ast.Number); ok {
		if b, ok := c.args[1].Value.(ast.Number); ok {
			w = max(value.NumberWeight(string(a)), value.NumberWeight(string(b)))
		}
	}
	return c.Work(1 + w>>6)
}

// plain tells whether a value takes no time to compare.
func plain(v ast.Value) bool {
	switch v := v.(type) {
	case ast.String:
		return len(v) < 256
	case ast.Number:
		return value.Digits(string(v)) <= short
	case ast.Boolean, ast.Null:
		return true
	}
	return false
}

// counted is a call that goes through the elements, or the letters.
func counted(c *call) bool {
	if text, ok := c.args[0].Value.(ast.String); ok {
		return c.Work(1 + len(text)>>6)
	}
	return c.Work(1 + c.elements(0)>>3)
}

// searched is a call that looks for a value among others.
func searched(c *call) bool {
	if plain(c.args[0].Value) {
		return c.Work(1 + c.elements(1)>>2)
	}
	return c.Work(1 + (c.w(0)+c.w(1))>>6)
}

// ordered is a call that puts a collection in order.
func ordered(c *call) bool {
	w := c.all()
	n := 0
	for i := range c.args {
		n += c.elements(i)
	}
	return c.Work(1+times(w>>6, bits.Len(uint(n)))) && c.Fits(times(2, w))
}

// paired is a call that compares everything in one operand with everything in
// the other.
func paired(c *call) bool {
	return c.Work(1 + times(nodes(c.w(0)), nodes(c.w(1)))>>1)
}
