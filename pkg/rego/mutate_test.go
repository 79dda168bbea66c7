package rego

import (
	"math/rand/v2"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fusegate/fusegate/pkg/rego/value"
)

type term = ast.Term

func splitPath(path string) []string { return strings.Split(path, "|") }

// mutator changes decoded JSON at random, the same for the same seed.
type mutator struct{ *rand.Rand }

func newMutator(seed uint64) mutator { return mutator{rand.New(rand.NewPCG(seed, 17))} }

// scalars are what mutations put in the place of something else.
var scalars = []any{
	nil, true, false, "", "a", "0", "1", "100m", "1Gi", "2Ki", "1.5", "1e3", "*", "/", "docker.io/a:1", "registry/x@sha256:00",
	"system:", "kube-system", "\u00e9\u0000<&>", "ALL", "null", "Always", "deny", strings.Repeat("long", 20),
	int64(0), int64(1), int64(-1), int64(2), int64(65535), int64(1000000), int64(1) << 53, int64(1)<<62 + 1,
	1.5, -0.5, 1e6, 1e21, 1e300, 0.1,
}

// mutate returns a copy of v with n changes.
func (m mutator) mutate(v any, n int) any {
	out := clone(v)
	for range n {
		out = m.change(out)
	}
	return out
}

// change changes one place: it goes down some way and there replaces, removes,
// repeats or adds.
func (m mutator) change(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 && m.IntN(8) > 0 {
			keys := value.SortedKeys(v)
			return m.field(v, keys[m.IntN(len(keys))])
		}
	case []any:
		if len(v) > 0 && m.IntN(8) > 0 {
			return m.element(v, m.IntN(len(v)))
		}
	case string:
		if m.IntN(3) == 0 {
			return m.text(v)
		}
	}
	return m.fresh()
}

func (m mutator) field(v map[string]any, key string) any {
	switch m.IntN(10) {
	case 0:
		delete(v, key)
	case 1:
		v[m.text(key)] = v[key]
	case 2:
		v["a"] = m.fresh()
	default:
		v[key] = m.change(v[key])
	}
	return v
}

func (m mutator) element(v []any, i int) any {
	switch m.IntN(10) {
	case 0:
		return append(v[:i:i], v[i+1:]...)
	case 1:
		return append(v, clone(v[i]))
	case 2:
		return append(v, m.fresh())
	default:
		v[i] = m.change(v[i])
	}
	return v
}

func (m mutator) text(s string) string {
	switch m.IntN(5) {
	case 0:
		return strings.ToUpper(s)
	case 1:
		return s + "x"
	case 2:
		return strings.ToValidUTF8(s[:len(s)/2], "")
	case 3:
		return " " + s
	}
	if i := m.IntN(len(scalars)); scalars[i] != nil {
		if text, ok := scalars[i].(string); ok {
			return text
		}
	}
	return s + "*"
}

func (m mutator) fresh() any {
	switch m.IntN(8) {
	case 0:
		return map[string]any{}
	case 1:
		return []any{}
	case 2:
		return map[string]any{"a": m.scalar(), "name": m.scalar()}
	case 3:
		return []any{m.scalar(), m.scalar()}
	}
	return m.scalar()
}

func (m mutator) scalar() any { return scalars[m.IntN(len(scalars))] }

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	}
	return v
}
