package printable_test

import (
	"encoding/json"
	"fmt"
	mathrand "math/rand"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/printable"
)

func TestText(t *testing.T) {
	cases := map[string]struct{ in, text, line string }{
		"clean":            {"gründlich, 世界 🛡️ \\u009b", "gründlich, 世界 🛡️ \\u009b", "gründlich, 世界 🛡️ \\u009b"},
		"C0":               {"a\x1b[31m\x00", `a\u001b[31m\u0000`, `a\u001b[31m\u0000`},
		"DEL and C1":       {"a\x7f\u0085\u009b31m", `a\u007f\u0085\u009b31m`, `a\u007f\u0085\u009b31m`},
		"lines":            {"a \r\n\n\tb\tc\n", "a \\u000d\n\n\tb\tc\n", "a / b c"},
		"other separators": {"a\u2028b\u2029c", `a\u2028b\u2029c`, `a\u2028b\u2029c`},
		"bidi":             {"\u202etxt\u2066.exe\u200f\u061c", `\u202etxt\u2066.exe\u200f\u061c`, `\u202etxt\u2066.exe\u200f\u061c`},
		"unseen":           {"a\u200bb\u200d\u00ad\u3164\ufeff", `a\u200bb\u200d\u00ad\u3164\ufeff`, `a\u200bb\u200d\u00ad\u3164\ufeff`},
		"tag":              {"\U000e0041", `\udb40\udc41`, `\udb40\udc41`},
		"noncharacters":    {"\ufffe\ufdd0\U0010ffff", `\ufffe\ufdd0\udbff\udfff`, `\ufffe\ufdd0\udbff\udfff`},
		"not UTF-8":        {"a\xff\xed\xa0\x80b\xc3", "a\ufffd\ufffd\ufffd\ufffdb\ufffd", "a\ufffd\ufffd\ufffd\ufffdb\ufffd"},
		"U+FFFD":           {"\ufffd", "\ufffd", "\ufffd"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff([]string{tc.text, tc.line}, []string{printable.Text(tc.in), printable.Line(tc.in)}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMax(t *testing.T) {
	cases := map[string]struct {
		in    string
		limit int
		want  string
	}{
		"fits":             {"abcdef", 6, "abcdef"},
		"cut":              {"abcdefg", 6, "abc..."},
		"whole characters": {"aüüü", 6, "aü..."},
		"whole escapes":    {"a\x1bbcdefg", 11, `a\u001bb...`},
		"no half escape":   {"ab\x1b\x1b", 9, "ab..."},
		"grows":            {"\x1b", 6, `\u001b`},
		"behind the limit": {"abcdefg\x1b", 6, "abc..."},
		"in the mark":      {"abcde\x1b", 6, "abc..."},
		"no room":          {"abc", 2, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := printable.TextMax(tc.in, tc.limit); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestEveryCharacter checks each against the rule, and that what stays can be
// applied: the API server reads that as YAML.
func TestEveryCharacter(t *testing.T) {
	var all strings.Builder
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		text, line := printable.Text(string(r)), printable.Line(string(r))
		if hides(r) && text == string(r) && r != '\n' && r != '\t' {
			t.Fatalf("%U stays", r)
		}
		if all.WriteString(text); r%4096 == 4095 {
			checkApplied(t, all.String())
			all.Reset()
		}
		if unicode.IsControl(r) && strings.ContainsFunc(line, unicode.IsControl) {
			t.Fatalf("%U: the line is %q", r, line)
		}
		if unicode.IsGraphic(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && text != string(r) {
			t.Fatalf("%U does not stay: %q", r, text)
		}
	}
}

func checkApplied(t *testing.T, text string) {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(map[string]string{"m": text}); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := yaml.Unmarshal([]byte(b.String()), &got); err != nil || got["m"] != text {
		t.Fatalf("%q is read as %q, %v", text, got["m"], err)
	}
}

// noise has characters of all classes, and bytes that are none.
type noise string

func (noise) Generate(r *mathrand.Rand, size int) reflect.Value {
	return reflect.ValueOf(noise(noiseOf(r.Int63(), size)))
}

func noiseOf(seed int64, size int) string {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	var b strings.Builder
	for range r.IntN(size + 1) {
		switch r.IntN(6) {
		case 0:
			b.WriteByte(byte(r.IntN(256)))
		case 1:
			b.WriteRune(rune(r.IntN(0xa1)))
		case 2:
			b.WriteRune(0x2000 + rune(r.IntN(0x70)))
		case 3:
			b.WriteRune(rune(r.IntN(unicode.MaxRune + 1)))
		case 4:
			b.WriteString([]string{"\n", "\t", "\r\n", " ", " / ", "..."}[r.IntN(6)])
		default:
			b.WriteByte(byte('a' + r.IntN(26)))
		}
	}
	return b.String()
}

// TestProperties checks what holds of whatever bytes.
func TestProperties(t *testing.T) {
	if err := quick.Check(func(n noise, limit uint8) bool { return holds(t, string(n), int(limit)) }, &quick.Config{MaxCount: 20_000}); err != nil {
		t.Error(err)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add([]byte("a\u009b31m\xff\U000e0041"), uint8(9))
	f.Fuzz(func(t *testing.T, text []byte, limit uint8) {
		if !holds(t, string(text), int(limit)) {
			t.Fail()
		}
	})
}

func holds(t *testing.T, s string, limit int) bool {
	t.Helper()
	text, line := printable.Text(s), printable.Line(s)
	short, shortLine := printable.TextMax(s, limit), printable.LineMax(s, limit)
	for what, got := range map[string]string{"text": text, "line": line, "short": short, "short line": shortLine} {
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && r != '\t' && hides(r) }) {
			t.Logf("%s of %q is %q", what, s, got)
			return false
		}
	}
	same := printable.Text(text) == text && printable.Line(line) == line &&
		printable.TextMax(short, limit) == short && printable.LineMax(shortLine, limit) == shortLine
	bounded := len(short) <= limit && len(shortLine) <= limit && (len(text) > limit || short == text) && (len(line) > limit || shortLine == line)
	if !same || !bounded || strings.ContainsAny(line+shortLine, "\n\t") {
		t.Logf("%q: text %q, line %q; of %d bytes %q and %q", s, text, line, limit, short, shortLine)
		return false
	}
	return true
}

func hides(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Cs, unicode.Zl, unicode.Zp, unicode.Bidi_Control,
		unicode.Noncharacter_Code_Point, unicode.Other_Default_Ignorable_Code_Point)
}

func TestCleanTextIsNotCopied(t *testing.T) {
	s := strings.Repeat("gründlich 世界\n", 20)
	v := map[string]any{"a": []any{s, int64(1), map[string]any{"b": s}}}
	n := testing.AllocsPerRun(100, func() {
		_, _, _ = printable.Text(s), printable.TextMax(s, 1000), printable.Fields(v)
		_ = printable.Line("clean")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFields(t *testing.T) {
	in := map[string]any{"x\x00": "k", "list": []any{"a", "b\x1b", map[string]any{"c": "\u202e"}, int64(3), nil}, "same": []any{"a"}}
	before := fmt.Sprintf("%q", in)
	want := map[string]any{`x\u0000`: "k", "list": []any{"a", `b\u001b`, map[string]any{"c": `\u202e`}, int64(3), nil}, "same": []any{"a"}}
	if diff := cmp.Diff(want, printable.Fields(in)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if fmt.Sprintf("%q", in) != before {
		t.Errorf("the value was modified: %q", in)
	}
}

// TestWriter checks that it does not matter how text is split, and that JSON stays
// what it was.
func TestWriter(t *testing.T) {
	check := func(n noise) bool {
		for _, pieces := range []int{1, 3, 1 << 20} {
			var b strings.Builder
			w := printable.NewWriter(&b)
			for rest := string(n); rest != ""; {
				piece := rest[:min(pieces, len(rest))]
				if size, err := w.Write([]byte(piece)); err != nil || size != len(piece) {
					t.Fatal(size, err)
				}
				rest = rest[len(piece):]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if b.String() != printable.Text(string(n)) {
				t.Logf("in pieces of %d: %q becomes %q", pieces, n, b.String())
				return false
			}
		}
		return staysJSON(t, strings.ToValidUTF8(string(n), ""))
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

func staysJSON(t *testing.T, want string) bool {
	t.Helper()
	var b strings.Builder
	w := printable.NewWriter(&b)
	if err := json.NewEncoder(w).Encode(want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := ""
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil || got != want {
		t.Logf("%q is read as %q, %v", want, got, err)
		return false
	}
	return true
}
