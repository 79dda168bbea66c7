package cost

import (
	"fmt"
	"io"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

// renderTemplate fills a Go template in. Every turn of a loop and every part of
// the template counts, as does what its functions print.
func renderTemplate(c *call) (*ast.Term, bool, error) {
	text, ok := c.args[0].Value.(ast.String)
	if _, isObject := c.args[1].Value.(ast.Object); !ok || !isObject {
		return nil, false, nil
	}
	var variables map[string]any
	if err := ast.As(c.args[1].Value, &variables); err != nil {
		return nil, false, nil
	}
	if !c.Work(16*len(text)) || !c.Fits(times(16, len(text))) {
		return nil, true, c.halt()
	}
	p := &printer{meter: c.Meter}
	t, err := template.New("template").Funcs(p.functions()).Parse(string(text))
	if err != nil {
		return nil, false, nil
	}
	for _, part := range t.Templates() {
		part.Root = counting(part.Tree, part.Root)
	}
	if err := t.Execute(p, variables); err != nil {
		if c.Err != nil {
			return nil, true, c.halt()
		}
		return nil, true, err
	}
	return ast.StringTerm(strings.ReplaceAll(p.String(), "<no value>", "<undefined>")), true, nil
}

// printer is where a template is written to.
type printer struct {
	strings.Builder
	meter *Meter
}

// Write counts what it writes.
func (p *printer) Write(b []byte) (int, error) {
	if !p.meter.Work(1+len(b)>>6) || !p.meter.Grow(len(b)) {
		return 0, p.meter.Err
	}
	return p.Builder.Write(b)
}

const tick = "fusegate_tick"

// functions are those of templates that print, and one that counts.
func (p *printer) functions() template.FuncMap {
	return template.FuncMap{
		tick: func() (string, error) {
			p.meter.Work(4)
			return "", p.meter.Err
		},
		"print":    p.print("", fmt.Sprint),
		"println":  p.print("", fmt.Sprintln),
		"html":     p.print("", template.HTMLEscaper),
		"js":       p.print("", template.JSEscaper),
		"urlquery": p.print("", template.URLQueryEscaper),
		"printf": func(format string, args ...any) (string, error) {
			return p.print(format, func(args ...any) string { return fmt.Sprintf(format, args...) })(args...)
		},
	}
}

// print is a function that prints, once it is known that the text fits. What it
// prints counts as it may be kept in a variable.
func (p *printer) print(format string, f func(...any) string) func(...any) (string, error) {
	return func(args ...any) (string, error) {
		weights := make([]int, len(args))
		for i, a := range args {
			weights[i] = plainWeight(a)
		}
		size := 2 * formattedSize(format, weights)
		if !p.meter.Work(1+size>>5) || !p.meter.Fits(size) {
			return "", p.meter.Err
		}
		text := f(args...)
		p.meter.Grow(len(text))
		return text, p.meter.Err
	}
}

// plainWeight is the weight of a value that a template works on.
func plainWeight(v any) int {
	w := value.EntryWeight
	switch v := v.(type) {
	case string:
		w += len(v)
	case []any:
		for _, e := range v {
			w += plainWeight(e)
		}
	case map[string]any:
		for k, e := range v {
			w += value.EntryWeight + len(k) + plainWeight(e)
		}
	case fmt.Stringer:
		w += len(v.String())
	}
	return min(w, value.MaxWeight)
}

// counting puts a call of the function that counts before each list of a
// template's parts: a loop's body, above all, and every template that calls
// itself.
func counting(t *parse.Tree, list *parse.ListNode) *parse.ListNode {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.IfNode:
			n.List, n.ElseList = counting(t, n.List), counting(t, n.ElseList)
		case *parse.RangeNode:
			n.List, n.ElseList = counting(t, n.List), counting(t, n.ElseList)
		case *parse.WithNode:
			n.List, n.ElseList = counting(t, n.List), counting(t, n.ElseList)
		}
	}
	list.Nodes = append([]parse.Node{countingNode()}, list.Nodes...)
	return list
}

func countingNode() parse.Node {
	t := template.Must(template.New("").Funcs(template.FuncMap{tick: func() string { return "" }}).Parse("{{" + tick + "}}"))
	return t.Root.Nodes[0]
}

var _ io.Writer = (*printer)(nil)
