package rego

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ruleCache remembers what rules and function calls came to while a template
// is evaluated. It is a topdown.VirtualCache that keeps all its keys in one
// list, where OPA's own allocates a map for every argument of every call; that
// was a fifth of all allocations of a review. One serves all templates of a
// review, one after the other; it is not safe for concurrent use.
type ruleCache struct {
	frames []*cacheFrame
	spare  []*cacheFrame
}

// cacheFrame is what was found under one set of with modifiers.
type cacheFrame struct {
	// keys are the terms of all keys, one key after the other.
	keys    []*ast.Term
	entries []cacheEntry
	// byHash is the newest entry, counted from 1, of those whose keys have a
	// hash.
	byHash map[int]int
}

// cacheEntry maps the key frame.keys[start:end]. A nil value means that the
// rule is undefined.
type cacheEntry struct {
	value            *ast.Term
	start, end, next int
}

// begin returns the cache empty, for another template's evaluation.
func (c *ruleCache) begin() *ruleCache {
	for len(c.frames) > 0 {
		c.Pop()
	}
	c.Push()
	return c
}

// Push implements topdown.VirtualCache.
func (c *ruleCache) Push() {
	if n := len(c.spare); n > 0 {
		c.frames, c.spare = append(c.frames, c.spare[n-1]), c.spare[:n-1]
		return
	}
	c.frames = append(c.frames, &cacheFrame{byHash: map[int]int{}})
}

// Pop implements topdown.VirtualCache.
func (c *ruleCache) Pop() {
	f := c.top()
	clear(f.keys)
	clear(f.entries)
	clear(f.byHash)
	f.keys, f.entries = f.keys[:0], f.entries[:0]
	c.frames, c.spare = c.frames[:len(c.frames)-1], append(c.spare, f)
}

func (c *ruleCache) top() *cacheFrame { return c.frames[len(c.frames)-1] }

// Get implements topdown.VirtualCache.
func (c *ruleCache) Get(key ast.Ref) (value *ast.Term, undefined bool) {
	if e := c.top().find(key, hashOf(key)); e != nil {
		return e.value, e.value == nil
	}
	return nil, false
}

// Put implements topdown.VirtualCache. The key is copied: topdown uses its
// memory again.
func (c *ruleCache) Put(key ast.Ref, value *ast.Term) {
	f, hash := c.top(), hashOf(key)
	if e := f.find(key, hash); e != nil {
		e.value = value
		return
	}
	start := len(f.keys)
	f.keys = append(f.keys, key...)
	f.entries = append(f.entries, cacheEntry{value: value, start: start, end: len(f.keys), next: f.byHash[hash]})
	f.byHash[hash] = len(f.entries)
}

func (f *cacheFrame) find(key ast.Ref, hash int) *cacheEntry {
	for i := f.byHash[hash]; i > 0; i = f.entries[i-1].next {
		e := &f.entries[i-1]
		if slices.EqualFunc(f.keys[e.start:e.end], key, (*ast.Term).Equal) {
			return e
		}
	}
	return nil
}

func hashOf(key ast.Ref) int {
	hash := len(key)
	for _, term := range key {
		hash = hash*31 + term.Hash()
	}
	return hash
}

// Keys implements topdown.VirtualCache.
func (c *ruleCache) Keys() []ast.Ref {
	f := c.top()
	keys := make([]ast.Ref, len(f.entries))
	for i, e := range f.entries {
		keys[i] = slices.Clone(f.keys[e.start:e.end])
	}
	return keys
}
