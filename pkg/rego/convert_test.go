package rego

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// documents are decoded JSON of every kind.
func documents() map[string]any {
	return map[string]any{
		"null": nil, "true": true, "integer": int64(1 << 60), "negative": int64(-1), "float": 1.5, "text": "a",
		"no text": "", "no items": []any{}, "no fields": map[string]any{},
		"items":   []any{nil, int64(1), []any{"a", []any{}}, map[string]any{"a": "b"}},
		"fields":  map[string]any{"a": nil, "": "no name", strings.Repeat("n", maxNameLength+1): int64(1)},
		"in turn": []any{map[string]any{"a": map[string]any{"b": "c", "a": int64(2)}}, map[string]any{"b": "c"}},
		"many":    many(3 * blockTerms),
	}
}

func many(n int) map[string]any {
	out := map[string]any{}
	for i := range n {
		out[fmt.Sprintf("name-%d", i)] = map[string]any{"name": []any{int64(i)}}
	}
	return out
}

// TestConvert compares with OPA's own conversion, before and after the names
// are known.
func TestConvert(t *testing.T) {
	var names nameTable
	for range 2 {
		for name, document := range documents() {
			want := ast.MustInterfaceToValue(document)
			got, err := convert(document, &names)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got.Value.Compare(want) != 0 || got.Hash() != want.Hash() || got.String() != want.String() {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
	}
}

func TestConvertError(t *testing.T) {
	for name, document := range map[string]any{
		"alone": make(chan int), "item": []any{make(chan int)}, "field": map[string]any{"a": map[string]any{"b": make(chan int)}},
	} {
		if _, err := convert(document, &nameTable{}); err == nil {
			t.Errorf("%s: no error for what is no JSON", name)
		}
	}
}

// TestNames: names are kept, but neither long ones nor ever more.
func TestNames(t *testing.T) {
	var names nameTable
	long := strings.Repeat("n", maxNameLength+1)
	if _, err := convert(map[string]any{"spec": nil, long: nil}, &names); err != nil {
		t.Fatal(err)
	}
	known := names.snapshot()
	if known["spec"] == nil || known[long] != nil {
		t.Errorf("kept %v, want spec alone", known)
	}
	if _, err := convert(many(2*maxNames), &names); err != nil {
		t.Fatal(err)
	}
	if got := len(names.snapshot()); got != maxNames {
		t.Errorf("%d names, want %d", got, maxNames)
	}
	if names.snapshot()["spec"] != known["spec"] {
		t.Error("a name that was known is gone")
	}
}

// TestConvertAtOnce: reviews that come at once lose none of each other's names.
func TestConvertAtOnce(t *testing.T) {
	const reviews = 500
	var names nameTable
	var wg sync.WaitGroup
	for i := range reviews {
		wg.Go(func() {
			if _, err := convert(map[string]any{fmt.Sprint(i): nil}, &names); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(names.snapshot()); got != reviews {
		t.Errorf("%d names, want %d", got, reviews)
	}
}
