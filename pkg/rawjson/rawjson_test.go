package rawjson_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fusegate/fusegate/pkg/rawjson"
)

var plain = []string{
	`{}`, `[]`, `null`, `true`, `false`, `""`, `0`, `-0`, `1`, `-12`, `1.5`, `-1.5e3`, `1E+2`, `9223372036854775807`, ` [ 1 , 2 ] `,
	`{"a":{"b":[1,"x",null,true,{"c":{}}]},"d":{},"e":[]}`, `"\"\\\/\b\f\n\r\t\u00e9\u0000"`, "\"\u00e9\"", `{"k:{\"name\":\"c0\"}":{".":{}}}`,
}

var odd = []string{
	``, ` `, `{`, `}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `[1,]`, `[1 2]`, `nul`, `truex`, `01`, `-`, `1.`, `.5`, `1e`, `+1`, `"`, `"\x"`, `"\u12"`, `"\ud800"`,
	"\"\xff\"", "\"a\nb\"", `{"a":1,"a":2}`, `1 2`, `{} {}`, `99999999999999999999`, `1e999`, `'a'`, `{a:1}`, `NaN`, "\ufeff{}", "[\"\\n\xff\"]",
}

func TestPlain(t *testing.T) {
	for _, text := range plain {
		got, ok := rawjson.Decode([]byte(text))
		if !ok {
			t.Errorf("%q was left to others", text)
		}
		compare(t, text, got)
	}
}

func TestOdd(t *testing.T) {
	for _, text := range append(odd, strings.Repeat("[", 2000)+strings.Repeat("]", 2000)) {
		if got, ok := rawjson.Decode([]byte(text)); ok {
			t.Errorf("%.40q was taken as %v", text, got)
		}
	}
}

// compare wants what the API server's decoder gives.
func compare(t *testing.T, text string, got any) {
	t.Helper()
	var want any
	if err := utiljson.Unmarshal([]byte(text), &want); err != nil {
		t.Fatalf("%q was taken, but is wrong: %v", text, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q (-want +got):\n%s", text, diff)
	}
}

// FuzzDecode: whatever is taken is what the API server's decoder takes it for.
func FuzzDecode(f *testing.F) {
	for _, text := range append(plain, odd...) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, ok := rawjson.Decode(data); ok {
			compare(t, string(data), got)
		}
	})
}
