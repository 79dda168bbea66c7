package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// list is what an API server may send.
const list = ` {"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"a]}\\\"b"},"items":[
{"a":"}]{[\"\\","b":[[1,2],{"c":null}]} , {"d":-1.5e3,"e":"\u00e9"},{}],"more":true} `

// TestListed takes lists apart, however they come in.
func TestListed(t *testing.T) {
	head := map[string]any{"kind": "PodList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "7", "continue": `a]}\"b`}, "more": true}
	items := []any{
		map[string]any{"a": `}]{["\`, "b": []any{[]any{int64(1), int64(2)}, map[string]any{"c": nil}}},
		map[string]any{"d": -1.5e3, "e": "\u00e9"}, map[string]any{},
	}
	cases := map[string]struct {
		reason string
		in     io.Reader
		head   map[string]any
		items  []any
		err    error
	}{
		"at once":        {reason: "all at once", in: strings.NewReader(list), head: head, items: items},
		"byte by byte":   {reason: "a value may lie across reads", in: iotest.OneByteReader(strings.NewReader(list)), head: head, items: items},
		"no items":       {reason: "an empty list", in: strings.NewReader(`{"items":[]}`), head: map[string]any{}},
		"null":           {reason: "as some servers write an empty list", in: strings.NewReader(`{"items":null,"a":1}`), head: map[string]any{"a": int64(1)}},
		"items first":    {reason: "custom resources come in that order", in: strings.NewReader(`{"items":[{"a":"b"}],"kind":"x"}`), head: map[string]any{"kind": "x"}, items: []any{map[string]any{"a": "b"}}},
		"cut in an item": {reason: "a connection that breaks", in: strings.NewReader(list[:150]), err: io.ErrUnexpectedEOF},
		"cut after one":  {reason: "a connection that breaks", in: strings.NewReader(`{"items":[{}`), err: io.ErrUnexpectedEOF},
		"empty":          {reason: "a connection that breaks", in: strings.NewReader(``), err: io.ErrUnexpectedEOF},
		"no list":        {reason: "what is no object", in: strings.NewReader(`[1]`), err: errNotJSON},
		"no comma":       {reason: "what is no JSON", in: strings.NewReader(`{"items":[{} {}]}`), err: errNotJSON},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := map[string]any{}
			var found []any
			err := newDocuments(tc.in, 16).listed(got, func(text []byte) error {
				v, err := decode(text)
				found = append(found, v)
				return err
			})
			if !errors.Is(err, tc.err) {
				t.Fatalf("%s: got error %v, want %v", tc.reason, err, tc.err)
			}
			if tc.err != nil {
				return
			}
			if diff := cmp.Diff(tc.head, got); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.items, found); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// FuzzListed wants of each list what the standard library reads.
func FuzzListed(f *testing.F) {
	f.Add([]byte(list))
	f.Add([]byte(`{"items":[{"a":1},{"b":[]}],"metadata":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var want struct{ Items []json.RawMessage }
		if json.Unmarshal(data, &want) != nil || bytes.Count(data, []byte("items")) != 1 || !bytes.Contains(data, []byte(`"items"`)) {
			return
		}
		var got []json.RawMessage
		err := newDocuments(bytes.NewReader(data), 16).listed(map[string]any{}, func(text []byte) error {
			got = append(got, bytes.Clone(text))
			return nil
		})
		if err == nil && len(got) != len(want.Items) {
			t.Errorf("%q: got %q, want %q", data, got, want.Items)
		}
	})
}
