package cost

import (
	"net"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"go.yaml.in/yaml/v3"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// indented is JSON with a line for each value, which begins with as many indents
// as the value is deep.
func indented(c *call) bool {
	w := c.w(0)
	if !c.Work(1+w>>5) || !c.Fits(times(6, w)) {
		return false
	}
	line := 1 + c.option(1, "prefix") + times(depth(c.args[0].Value), 1+c.option(1, "indent"))
	size := times(nodes(w), line)
	return c.Fits(size+times(6, w)) && c.Work(size>>6)
}

// option is the length of an option that is text.
func (c *call) option(i int, name string) int {
	options, ok := c.args[i].Value.(ast.Object)
	if !ok {
		return 0
	}
	if t := options.Get(ast.InternedTerm(name)); t != nil {
		return c.weight(t.Value)
	}
	return 0
}

// jsonText is JSON that becomes values.
func jsonText(c *call) bool {
	text := c.text(0)
	if !c.Work(1 + len(text)>>4) {
		return false
	}
	n := 1 + separators(text, ",:[{")
	return c.Work(4*n) && c.Fits(len(text)+times(n, 2*EntrySize))
}

// separators is how often one of these letters occurs.
func separators(text, letters string) int {
	n := 0
	for i := range len(letters) {
		n += strings.Count(text, letters[i:i+1])
	}
	return n
}

// yamlWritten is YAML, whose lines are indented by two for each level.
func yamlWritten(c *call) bool {
	w := c.w(0)
	if !c.Work(1+w>>2) || !c.Fits(times(6, w)) {
		return false
	}
	size := times(nodes(w), 2, 1+depth(c.args[0].Value))
	return c.Fits(size+times(8, w)) && c.Work(decoding+size>>4)
}

// yamlText is YAML that becomes values: parts that it names and repeats count as
// often as they are repeated.
func yamlText(c *call) bool {
	text := c.text(0)
	if !c.Work(1 + len(text)) {
		return false
	}
	n := 1 + separators(text, "\n,:-[{")
	if !c.Work(16*n) || !c.Fits(len(text)+times(n, 4*EntrySize)) {
		return false
	}
	if !strings.Contains(text, "&") || !strings.Contains(text, "*") {
		return true
	}
	var document yaml.Node
	if yaml.Unmarshal([]byte(text), &document) != nil {
		return c.Work(16 * n) // and the builtin will say so
	}
	w := expanded(&document, map[*yaml.Node]int{})
	return c.Work(16*nodes(w)) && c.Fits(times(4, w))
}

// expanded is the weight of YAML with what it repeats written out.
func expanded(n *yaml.Node, known map[*yaml.Node]int) int {
	if w, ok := known[n]; ok {
		return w
	}
	known[n] = value.MaxWeight // should it hold itself
	w := value.EntryWeight + len(n.Value)
	if n.Alias != nil {
		w += expanded(n.Alias, known)
	}
	for _, e := range n.Content {
		w += expanded(e, known)
	}
	known[n] = min(w, value.MaxWeight)
	return known[n]
}

// patched is a value changed by a list of operations. Each that copies may
// double it.
func patched(c *call) bool {
	size, operations, looking := c.w(0)+c.w(1), c.elements(1), 1
	if list, ok := c.args[1].Value.(*ast.Array); ok {
		list.Foreach(func(t *ast.Term) {
			switch operation(t.Value) {
			case "copy":
				size, looking = times(2, size), looking+1
			case "move", "test":
				looking++
			}
		})
	}
	return c.Work(1+times(looking, size>>5)+times(operations, c.w(0)>>9)) && c.Fits(times(2, size))
}

func operation(v ast.Value) string {
	if o, ok := v.(ast.Object); ok {
		if t := o.Get(ast.InternedTerm("op")); t != nil {
			if name, ok := t.Value.(ast.String); ok {
				return string(name)
			}
		}
	}
	return ""
}

// source is Rego that becomes its syntax tree.
func source(c *call) bool {
	n := len(c.text(0)) + len(c.text(1))
	return c.Work(1+times(32, n)) && c.Fits(times(1024, n))
}

// query is GraphQL that becomes its syntax tree, and is checked field by field
// against all others.
func query(c *call) bool {
	n := 0
	for i, a := range c.args {
		if _, ok := a.Value.(ast.String); ok {
			n += len(c.text(i))
		} else {
			n += c.w(i)
		}
	}
	return c.Work(1+times(n, n)>>6) && c.Fits(times(1024, n))
}

// decoding is what reading a certificate, key or token or writing YAML takes at least, in steps: some 15 µs
// even if it is none.
const decoding = 64

// certificates is what is read, and not checked.
func certificates(c *call) bool {
	w := c.all()
	return c.Work(decoding+w>>1) && c.Fits(times(8, w))
}

// verified is the check of a signature, which grows with the square of the key.
func verified(c *call) bool {
	w := c.all()
	return c.Work(decoding+times(w, w)>>10) && c.Fits(times(8, w))
}

// signed is the use of a private key, which grows with its third power.
func signed(c *call) bool {
	w := c.all()
	return c.Work(decoding+times(w, w)>>10+times(w>>6, w>>6, w>>6)) && c.Fits(times(8, w))
}

// networksPaired looks at each network of one list with each of the other.
func networksPaired(c *call) bool {
	pairs := times(nodes(c.w(0)), nodes(c.w(1)))
	return c.Work(1+times(4, pairs)) && c.Fits(times(2, c.elements(0), c.elements(1), EntrySize))
}

// networksMerged goes through a list again for each network that it takes out.
func networksMerged(c *call) bool {
	n := c.elements(0)
	return c.Work(1+times(8, n)+times(n, n)>>4) && linear(2)(c)
}

// networkExpanded gives every address of a network.
func networkExpanded(c *call) bool {
	_, network, err := net.ParseCIDR(c.text(0))
	if err != nil {
		return linear(1)(c)
	}
	ones, bits := network.Mask.Size()
	if bits-ones > 30 {
		return c.full()
	}
	n := 1 << (bits - ones)
	return c.Work(4*n) && c.Fits(times(n, 2*EntrySize))
}
