package cost

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// digits is how long a number is when it is written out.
func digits(v ast.Value) int {
	n, ok := v.(ast.Number)
	if !ok {
		return 0
	}
	return value.Digits(string(n))
}

// short is the length of numbers up to which arithmetic takes no time.
const short = 40

// long is the work of reading, reckoning with and writing numbers of that many
// digits, which grows with their square.
func (m *Meter) long(digits int) bool {
	if digits <= short {
		return m.Work(1)
	}
	return m.Work(1+times(digits, digits)>>14) && m.Fits(EntrySize+times(4, digits))
}

// arithmetic gives a number no longer than its operands together.
func arithmetic(c *call) bool {
	sum := 0
	for _, a := range c.args {
		if _, isSet := a.Value.(ast.Set); isSet {
			return linear(1)(c)
		}
		sum += digits(a.Value)
	}
	return c.long(sum)
}

// shifted gives a number with as many more bits as the second operand says.
func shifted(c *call) bool {
	by := c.magnitude(1)
	if by > value.MaxWeight {
		return c.full()
	}
	return c.long(digits(c.args[0].Value) + digits(c.args[1].Value) + int(by)/3)
}

// folded is the sum or product of a collection, which is as long as all of it.
func folded(c *call) bool {
	n, sum := c.elements(0), 0
	add := func(t *ast.Term) { sum += digits(t.Value) }
	switch v := c.args[0].Value.(type) {
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	}
	return c.Work(1+2*n+times(n, sum)>>10) && c.long(sum)
}

// ranged gives the numbers between two, by steps of one or of the third operand.
func ranged(c *call) bool {
	from, to, step := c.float(0), c.float(1), 1.0
	if len(c.args) > 2 {
		step = max(c.float(2), 1)
	}
	n := max(from-to, to-from)/step + 1
	if !(n < value.MaxWeight) {
		return c.full()
	}
	long := digits(c.args[0].Value) + digits(c.args[1].Value)
	return c.Work(2*int(n)) && c.Fits(times(int(n), EntrySize+long)) && c.Work(times(int(n), long)>>4)
}

// parsedNumber reads a number from text.
func parsedNumber(c *call) bool { return c.long(len(c.text(0))) }
