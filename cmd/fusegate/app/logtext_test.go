package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/types"
)

const hostile = "evil\u009b31m\u202e\x1b[2J\x7f\ninfo\tforged\u2028\xff"

// TestLogIsPrintable logs what users may have written: an entry stays one line, and a
// terminal obeys none of it.
func TestLogIsPrintable(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			var b bytes.Buffer
			s := settings{}
			s.LogFormat = format
			log := logger(s, &b).WithName(hostile).WithValues(hostile, hostile)
			log.Error(errors.New(hostile), hostile, "object", types.NamespacedName{Namespace: "a", Name: hostile}, "map", map[string]any{hostile: hostile})
			text := b.String()
			if strings.Count(text, "\n") != 1 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x1b\x7f\u009b\u202e\u2028") || !strings.Contains(text, `\u009b31m\u202e`) {
				t.Errorf("got %q", text)
			}
			if format == "json" && !json.Valid(b.Bytes()) {
				t.Errorf("no JSON: %s", text)
			}
		})
	}
}
