package rego

import (
	"math/rand/v2"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

var _ topdown.VirtualCache = (*ruleCache)(nil)

func key(values ...any) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for _, v := range values {
		ref = append(ref, ast.NewTerm(ast.MustInterfaceToValue(v)))
	}
	return ref
}

// TestRuleCacheAsStock does the same at random with OPA's own cache.
func TestRuleCacheAsStock(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	parts := []any{nil, false, true, "a", 1, 1.5, []any{}, []any{"a"}, map[string]any{"a": nil}}
	ours, stock, depth, hits := new(ruleCache).begin(), topdown.NewVirtualCache(), 0, 0
	for range 20000 {
		k := key()
		for range random.IntN(3) {
			k = append(k, key(parts[random.IntN(len(parts))])[1])
		}
		switch n := random.IntN(100); {
		case n == 0:
			ours.Push()
			stock.Push()
			depth++
		case n == 1 && depth > 0:
			ours.Pop()
			stock.Pop()
			depth--
		case n < 30:
			if _, undefined := stock.Get(k); undefined {
				continue
			}
			var value *ast.Term
			if n > 10 {
				value = ast.IntNumberTerm(n)
			}
			ours.Put(k, value)
			stock.Put(k, value)
		}
		want, wantUndefined := stock.Get(k)
		got, undefined := ours.Get(k)
		if got != want || undefined != wantUndefined {
			t.Fatalf("%v: got %v, %v, want %v, %v", k, got, undefined, want, wantUndefined)
		}
		if got != nil || undefined {
			hits++
		}
	}
	if hits < 1000 {
		t.Errorf("%d hits: the keys are too many for the test to mean anything", hits)
	}
}

func TestRuleCacheCopiesKeys(t *testing.T) {
	c := new(ruleCache).begin()
	k := key("a")
	c.Put(k, ast.InternedTerm(1))
	k[1] = ast.InternedTerm("b")
	if got, _ := c.Get(k); got != nil {
		t.Errorf("the key changed with the memory that it was put from: got %v", got)
	}
	if got, _ := c.Get(key("a")); got == nil {
		t.Error("the key that was put is gone")
	}
	if keys := c.Keys(); len(keys) != 1 || !keys[0].Equal(key("a")) {
		t.Errorf("keys: got %v", keys)
	}
}

// TestRuleCacheCollision: null and false have one hash.
func TestRuleCacheCollision(t *testing.T) {
	c := new(ruleCache).begin()
	one, other := key(nil), key(false)
	if hashOf(one) != hashOf(other) {
		t.Fatal("the keys do not collide")
	}
	c.Put(one, ast.InternedTerm("null"))
	if got, undefined := c.Get(other); got != nil || undefined {
		t.Errorf("got %v, %v for a key that was not put", got, undefined)
	}
	c.Put(other, ast.InternedTerm("false"))
	for want, k := range map[string]ast.Ref{"null": one, "false": other} {
		if got, _ := c.Get(k); got == nil || !got.Equal(ast.InternedTerm(want)) {
			t.Errorf("%v: got %v, want %s", k, got, want)
		}
	}
}

// TestRuleCacheBegins: an evaluation may end, by a panic, before its with
// modifiers do.
func TestRuleCacheBegins(t *testing.T) {
	c := new(ruleCache).begin()
	for range 3 {
		c.Push()
		c.Put(key("a"), ast.InternedTerm(1))
	}
	c.begin()
	for depth := range 3 {
		if got, _ := c.Get(key("a")); got != nil {
			t.Errorf("got %v from an earlier evaluation, %d deep", got, depth)
		}
		c.Push()
	}
}
