package config_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
)

const versioned = "apiVersion: config.fusegate.dev/v1alpha1\nkind: Configuration\n"

// inUTF16 is text as some editors write it.
func inUTF16(text string) string {
	out := []byte("\xff\xfe")
	for _, unit := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, unit)
	}
	return string(out)
}

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, text string
		want         config.Config
		err          string // part of the error
	}{
		"nothing":          {reason: "a file that says nothing is no mistake"},
		"comments":         {reason: "nor one of comments", text: "---\n# nothing yet\n"},
		"without version":  {reason: "it is of the time before there were any", text: "namespace: a", want: config.Config{Namespace: "a"}},
		"with version":     {reason: "the version of today", text: versioned + "namespace: a", want: config.Config{Namespace: "a"}},
		"JSON":             {reason: "YAML holds it", text: `{"namespace": "a", "checkEvery": 0}`, want: config.Config{Namespace: "a", CheckEvery: new(int32(0))}},
		"empty value":      {reason: "it says nothing", text: "namespace:\nauditLimit: null\nexempt:\n"},
		"empty lists":      {reason: "no formats, as if it were left out, and no roles, which is refused later", text: "reports: []\nroles: []", want: config.Config{Roles: []string{}}},
		"zero":             {reason: "no checks are not the default of checks", text: "checkEvery: 0", want: config.Config{CheckEvery: new(int32(0))}},
		"durations":        {reason: "as Go writes them", text: "auditResync: 90s", want: config.Config{AuditResync: 90 * time.Second}},
		"long durations":   {reason: "in any unit", text: "auditResync: 1h30m0.5s", want: config.Config{AuditResync: 90*time.Minute + 500*time.Millisecond}},
		"big number":       {reason: "the biggest", text: "checkEvery: 2147483647", want: config.Config{CheckEvery: new(int32(2147483647))}},
		"exponent":         {reason: "a number all the same", text: "checkEvery: 1e3", want: config.Config{CheckEvery: new(int32(1000))}},
		"list as a string": {reason: "as variables have them", text: "reports: openreports,policyreport", want: config.Config{Reports: []string{"openreports", "policyreport"}}},
		"commas":           {reason: "in a list they are nothing special", text: `roles: ["a,b", c]`, want: config.Config{Roles: []string{"a,b", "c"}}},
		"bytes":            {reason: "base64, as in a Secret", text: "caBundle: Y2E=", want: config.Config{CABundle: []byte("ca")}},
		"CRLF": {
			reason: "an editor of Windows", text: strings.ReplaceAll("---\n"+versioned+"namespace: a\nexempt:\n  users:\n  - \"x y\"\n---\n", "\n", "\r\n"),
			want: config.Config{Namespace: "a", Exempt: exempt.Options{Users: []string{"x y"}}},
		},
		"BOM":                 {reason: "an editor of Windows", text: "\ufeff---\nnamespace: a\n", want: config.Config{Namespace: "a"}},
		"UTF-16":              {reason: "a shell of Windows", text: inUTF16("---\nnamespace: a\n# ü\n"), want: config.Config{Namespace: "a"}},
		"empty documents":     {reason: "they say nothing", text: "---\n---\nnamespace: a\n---\n# end\n", want: config.Config{Namespace: "a"}},
		"documents":           {reason: "the second would be ignored", text: "namespace: a\n---\nexempt: {}\n", err: "holds more than one YAML document; only one is possible"},
		"unknown version":     {reason: "what it means is not known", text: "apiVersion: config.fusegate.dev/v2\nkind: Configuration\n", err: `apiVersion: "config.fusegate.dev/v2": is not a version of the settings that this fusegate reads; write config.fusegate.dev/v1alpha1`},
		"no version":          {reason: "a number is none", text: "apiVersion: 1\nkind: Configuration\n", err: "apiVersion: 1: is not a version"},
		"unknown kind":        {reason: "it is some other file", text: "apiVersion: config.fusegate.dev/v1alpha1\nkind: Config\n", err: `kind: "Config": is not the kind of a configuration file; write kind: Configuration`},
		"kind is missing":     {reason: "both or neither", text: "apiVersion: config.fusegate.dev/v1alpha1\n", err: "kind: is missing beside apiVersion; write kind: Configuration"},
		"version is missing":  {reason: "both or neither", text: "kind: Configuration\n", err: "apiVersion: is missing beside kind; write apiVersion: config.fusegate.dev/v1alpha1"},
		"unknown key":         {reason: "a typing error", text: "timeoutSecond: 3", err: `unknown key "timeoutSecond": the keys are apiServers, auditLimit,`},
		"wrong case":          {reason: "the key that is meant is named", text: "timeoutseconds: 3", err: `unknown key "timeoutseconds": write it timeoutSeconds`},
		"wrong case, nested":  {reason: "and with what it is below", text: "exempt: {nameSpaces: [a]}", err: `unknown key "exempt.nameSpaces": write it exempt.namespaces`},
		"unknown nested key":  {reason: "least of all in an exemption", text: "exempt: {namespace: [a]}", err: `unknown key "exempt.namespace": the keys of exempt are controllers, groups,`},
		"a consent":           {reason: "it is for one run", text: "takeOverCRDs: true", err: `unknown key "takeOverCRDs"`},
		"key twice":           {reason: "the second would win", text: "timeoutSeconds: 1\ntimeoutSeconds: 2", err: `key "timeoutSeconds" already set in map`},
		"quoted number":       {reason: "text is no number, as everywhere in Kubernetes", text: `timeoutSeconds: "2"`, err: `timeoutSeconds: "2": want a whole number`},
		"quoted number again": {reason: "also where it may be left out", text: `checkEvery: "2"`, err: `checkEvery: "2": want a whole number`},
		"fraction":            {reason: "2.7 is not silently 2", text: "checkEvery: 2.7", err: "checkEvery: 2.7: want a whole number"},
		"too big":             {reason: "it would be cut", text: "checkEvery: 2147483648", err: "checkEvery: 2147483648: want a number up to 2147483647"},
		"no unit":             {reason: "nobody knows of what", text: "auditResync: 30", err: "auditResync: 30: want a duration such as 30m or 1h"},
		"no base64":           {reason: "half a bundle", text: "caBundle: '-----BEGIN'", err: "caBundle: want base64"},
		"no list":             {reason: "a map is none", text: "exempt: {users: {a: b}}", err: "exempt.users"},
		"no keys":             {reason: "a list is none", text: "exempt: [a]", err: "exempt"},
		"fail closed":         {reason: "there will never be one", text: "failurePolicy: Fail", err: config.ErrFailurePolicy.Error()},
		"narrowing":           {reason: "only wider", text: "namespaceSelector: {}", err: config.ErrNarrower.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.Parse([]byte(tc.text))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%s: got error %v, want one with %q", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" || (tc.want.Roles == nil) != (got.Roles == nil) {
				t.Errorf("%s: (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// FuzzParse checks that what is possible is the same after it was written and
// read again.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", versioned + "checkEvery: 0\n", "exempt: {namespaces: [a, 'b-*'], kubeSystemAccounts: ControllerManagerOnly}\nauditResync: 90s\nreports: [openreports]\n",
		"\ufeffimage: fusegate\r\nlogDenies: yes\r\napiServers: ['https://192.0.2.1,x']\r\n", "auditLimit: 1e2\ncaBundle: ''\n", "context: a\n---\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse(text)
		if err != nil {
			return
		}
		c = c.WithDefaults()
		if c.ValidateInstalled() != nil {
			return
		}
		written, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse(written)
		if err != nil {
			t.Fatalf("%v in\n%s", err, written)
		}
		again = again.WithDefaults()
		for _, s := range config.Settings() {
			if was, is := s.Of(c), s.Of(again); s.PerProcess == "" && !cmp.Equal(was, is, cmpopts.EquateEmpty()) {
				t.Errorf("%s: got %v, want %v from\n%s", s.Key, is, was, written)
			}
		}
	})
}
