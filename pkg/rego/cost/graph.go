package cost

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// implementation is a builtin of our own: OPA's takes time, or gives a result,
// that no look at the operands bounds. What it does not know, wrong types above
// all, is OPA's to refuse: known is false then, and the call costs nothing.
type implementation func(c *call) (result *ast.Term, known bool, err error)

// own are the builtins of our own. They give what OPA's give.
var own = map[string]implementation{
	"graph.reachable":         reachable,
	"graph.reachable_paths":   reachablePaths,
	"strings.render_template": renderTemplate,
}

// neighbours calls f for each end of the edges of a node.
func neighbours(edges *ast.Term, f func(*ast.Term)) int {
	switch v := edges.Value.(type) {
	case *ast.Array:
		v.Foreach(f)
		return v.Len()
	case ast.Set:
		v.Foreach(f)
		return v.Len()
	}
	return 0
}

// graphOf are the operands of a builtin about graphs.
func graphOf(c *call) (graph ast.Object, roots []*ast.Term, ok bool) {
	graph, ok = c.args[0].Value.(ast.Object)
	if !ok {
		return nil, nil, false
	}
	switch c.args[1].Value.(type) {
	case *ast.Array, ast.Set:
		neighbours(c.args[1], func(t *ast.Term) { roots = append(roots, t) })
		return graph, roots, true
	}
	return nil, nil, false
}

// reachable is the set of nodes that paths from the roots come to. OPA's follows
// the edges of a node as often as it is met.
func reachable(c *call) (*ast.Term, bool, error) {
	graph, queue, ok := graphOf(c)
	if !ok {
		return nil, false, nil
	}
	reached := ast.NewSet()
	for len(queue) > 0 {
		node := queue[0]
		queue = queue[1:]
		if !c.Work(4) {
			return nil, true, c.halt()
		}
		edges := graph.Get(node)
		if edges == nil || reached.Contains(node) {
			continue
		}
		reached.Add(node)
		neighbours(edges, func(t *ast.Term) { queue = append(queue, t) })
		if !c.Grow(EntrySize) {
			return nil, true, c.halt()
		}
	}
	return ast.NewTerm(reached), true, nil
}

// paths collects the paths of a graph, of which there may be more than atoms in
// the world.
type paths struct {
	*call
	graph ast.Object
	found ast.Set
}

func reachablePaths(c *call) (*ast.Term, bool, error) {
	graph, roots, ok := graphOf(c)
	if !ok {
		return nil, false, nil
	}
	p := &paths{call: c, graph: graph, found: ast.NewSet()}
	for _, root := range roots {
		edges := graph.Get(root)
		if edges == nil {
			continue
		}
		path, on := []*ast.Term{root}, ast.NewSet(root)
		if neighbours(edges, func(t *ast.Term) { p.follow(t, path, on) }) == 0 {
			p.add(path)
		}
	}
	return ast.NewTerm(p.found), true, c.halt()
}

// add takes a path into the result.
func (p *paths) add(path []*ast.Term) {
	if p.Err == nil && p.Work(4*len(path)) && p.Grow((1+len(path))*EntrySize) {
		p.found.Add(ast.ArrayTerm(path...))
	}
}

// follow goes on from a path to a node. on are the nodes of the path.
func (p *paths) follow(node *ast.Term, path []*ast.Term, on ast.Set) {
	if !p.Work(4 + len(path)) {
		return
	}
	if on.Contains(node) { // a circle ends before it closes
		p.add(path)
		return
	}
	edges := p.graph.Get(node)
	if edges == nil { // a node that the graph does not have is not part of it
		p.add(path)
		return
	}
	longer := append(append([]*ast.Term(nil), path...), node)
	with := on.Copy()
	with.Add(node)
	if neighbours(edges, func(t *ast.Term) { p.follow(t, longer, with) }) == 0 {
		p.add(longer)
	}
}

// halt is the error that ends the evaluation, nil if it may go on.
func (m *Meter) halt() error {
	if m.Err == nil {
		return nil
	}
	return topdown.Halt{Err: m.Err}
}
