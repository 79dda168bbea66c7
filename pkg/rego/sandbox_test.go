package rego_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

func review(object map[string]any) *policy.Review { return &policy.Review{Object: object} }

// TestSandboxRefuses tries to get at what is not the template's own.
func TestSandboxRefuses(t *testing.T) {
	const secret = "package lib.x\nv = \"v\"\nf(x) = x"
	imports := func(line string) source {
		return source{rego: "package k\n" + line + "\nviolation[{\"msg\": \"m\"}] { true }", libs: []string{secret}}
	}
	rule := func(text string) source {
		return source{rego: "package k\nviolation[{\"msg\": \"m\"}] { true }\n" + text, libs: []string{secret}}
	}
	cases := map[string]struct {
		source source
		code   string
	}{
		"ImportTemplate":    {imports("import data.template"), rego.CodeImport},
		"ImportLibs":        {imports("import data.libs.lib.x"), rego.CodeImport},
		"ImportHooks":       {imports("import data.hooks"), rego.CodeImport},
		"ImportConstraints": {imports("import data.constraints"), rego.CodeImport},
		"ImportInventory":   {imports("import data.inventory"), rego.CodeImport},
		"ImportData":        {imports("import data"), rego.CodeImport},
		"ImportDataAs":      {imports("import data as d"), rego.CodeImport},
		"ImportLibrary":     {imports("import data.library"), rego.CodeImport},
		"ImportInput":       {imports("import input.review"), rego.CodeImport},
		"ImportAsInput":     {imports("import data.lib.x as input"), "rego_parse_error"},
		"ImportAsData":      {imports("import data.lib.x as data"), "rego_parse_error"},
		"ImportRegoV1":      {source{rego: "package k\nimport rego.v1\nviolation contains {\"msg\": \"m\"} if { true }"}, rego.CodeImport},

		"Ref":             {v0(`msg := data.secrets`), rego.CodeReference},
		"RefByString":     {v0(`msg := data["secrets"].x`), rego.CodeReference},
		"RefTemplate":     {v0(`msg := data.template.violation`), rego.CodeReference},
		"RefLibs":         {v0(`msg := data.libs.lib.x.v`), rego.CodeReference},
		"RefVariable":     {v0(`x := input.k; msg := data[x]`), rego.CodeReference},
		"RefInput":        {v0(`msg := data[input.k]`), rego.CodeReference},
		"RefAny":          {v0(`msg := data[_]`), rego.CodeReference},
		"RefUnbound":      {v0(`data[k]; msg := k`), rego.CodeReference},
		"Alias":           {v0(`d := data; msg := d.secrets`), rego.CodeReference},
		"AliasUnified":    {v0(`d = data; msg := d.secrets`), rego.CodeReference},
		"Walk":            {v0(`walk(data, [p, x]); msg := sprintf("%v", [p])`), rego.CodeReference},
		"ObjectGet":       {v0(`msg := object.get(data, "secrets", "none")`), rego.CodeReference},
		"InRef":           {v0(`msg := data.lib.x[data.secrets]`), rego.CodeReference},
		"InRefOfInput":    {v0(`msg := input[data.secrets]`), rego.CodeReference},
		"InArray":         {v0(`msg := sprintf("%v", [[data]])`), rego.CodeReference},
		"InObject":        {v0(`o := {"k": data.secrets}; msg := o.k`), rego.CodeReference},
		"InKey":           {v0(`o := {data.secrets: 1}; msg := "m"`), rego.CodeReference},
		"InComprehension": {v0(`msg := concat("", [x | x := data.secrets[_]])`), rego.CodeReference},
		"InNot":           {v0(`msg := "m"; not data.secrets`), rego.CodeReference},
		"InCall":          {v0(`msg := sprintf("%v", [upper(data.secrets)])`), rego.CodeReference},
		"InHead":          {source{rego: "package k\nviolation[{\"msg\": data.secrets}] { true }"}, rego.CodeReference},
		"InElse":          {rule(`f = 1 { input.a } else = data.secrets { true }`), rego.CodeReference},
		"InArgs":          {rule(`f(data) = data.secrets`), rego.CodeReference},
		"InLib":           {source{rego: v0(`msg := "m"`).rego, libs: []string{"package lib.x\nv = data.secrets"}}, rego.CodeReference},
		"InEvery":         {v1(`msg := "m"; every x in data.secrets { x }`), rego.CodeReference},
		"InSome":          {v1(`some msg in data.secrets`), rego.CodeReference},
		"InTemplateText":  {v1(`msg := $"{data.secrets}"`), rego.CodeReference},
		"With":            {v0(`msg := "m"; input.a with data.secrets as 1`), rego.CodeReference},
		"WithData":        {v0(`msg := "m"; input.a with data as {}`), rego.CodeReference},
		"WithValue":       {v0(`msg := input.a with input as data.secrets`), rego.CodeReference},
		"WithTemplate":    {v0(`msg := "m"; input.a with data.template.violation as set()`), rego.CodeReference},
		"Default":         {rule("default f = data.secrets"), "rego_parse_error"},
		"LibInPackageOfTemplate": {
			source{rego: v0(`msg := "m"`).rego, libs: []string{"package template\nviolation[{\"msg\": \"theirs\"}] { true }"}}, rego.CodeSource,
		},

		"HTTPSend":     {v0(`http.send({"method": "GET", "url": "http://127.0.0.1"}); msg := "m"`), "rego_type_error"},
		"LookupIP":     {v0(`net.lookup_ip_addr("localhost"); msg := "m"`), "rego_type_error"},
		"Runtime":      {v0(`msg := opa.runtime().env.HOME`), "rego_type_error"},
		"MatchSchema":  {v0(`json.match_schema({}, {"$ref": "file:///etc/passwd"}); msg := "m"`), "rego_type_error"},
		"VerifySchema": {v0(`json.verify_schema({"$ref": "http://127.0.0.1"}); msg := "m"`), "rego_type_error"},
		"ExternalData": {v0(`external_data({}); msg := "m"`), "rego_type_error"},
		"MockWithSend": {v0(`msg := sprintf("%v", [count({})]) with count as http.send`), "rego_unsafe_var_error"},
		"SendInLib":    {source{rego: v0(`msg := "m"`).rego, libs: []string{"package lib.x\nf(x) = http.send(x)"}}, "rego_type_error"},
		"Nested HTTP":  {v0(`msg := sprintf("%v", [[http.send({})]])`), "rego_type_error"},
		"RuntimeByRef": {v0(`f := opa.runtime; msg := f.env`), "rego_unsafe_var_error"},
		"Unknown":      {v0(`msg := sprintf("%v", [os.environ()])`), "rego_type_error"},
		"AsInputArg":   {rule(`f(input) { input.a }`), "rego_compile_error"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			ds := diagnostics(t, rego.CheckTemplate(template("K", tc.source)))
			if len(ds) == 0 {
				t.Fatalf("compiled:\n%s", tc.source.rego)
			}
			if ds[0].Code != tc.code || ds[0].Location == "" {
				t.Errorf("got %q, want a located %s", ds, tc.code)
			}
		})
	}
}

// TestSandboxSeesNothing runs what compiles and could reach outside.
func TestSandboxSeesNothing(t *testing.T) {
	cases := map[string]struct {
		reason string
		source source
		want   []finding
	}{
		"ParseModule": {
			"parsing is a pure function", v0(`msg := rego.parse_module("a.rego", "package a")["package"].path[1].value`),
			[]finding{{"a", map[string]any{}}},
		},
		"Trace": {"traces go nowhere", v0(`trace("secret"); msg := "m"`), []finding{{"m", map[string]any{}}}},
		"Print": {"prints are compiled away", v0(`print("secret", input); msg := "m"`), []finding{{"m", map[string]any{}}}},
		"Inventory": {
			"an empty inventory is undefined", v0(`walk(data.inventory, [p, x]); msg := sprintf("%v", [p])`), nil,
		},
		"LibRoot": {
			"the root of the libraries holds the template's own only",
			v0(`msg := sprintf("%v", [data.lib])`, "package lib.mine\nv = 1"),
			[]finding{{`{"mine": {"v": 1}}`, map[string]any{}}},
		},
		"InputKeys": {
			"the input is the review and the parameters", v0(`msg := concat(",", sort([k | input[k]]))`),
			[]finding{{"parameters,review", map[string]any{}}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, verdict(t, tc.source, nil, map[string]any{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestTemplatesDoNotSeeEachOther gives two templates and the inventory what
// neither may read of the other.
func TestTemplatesDoNotSeeEachOther(t *testing.T) {
	d, a := newDriver(t, v0(`msg := sprintf("%v", [data.lib])`, "package lib.a\nv = \"A\""), nil)
	if err := d.AddTemplate(t.Context(), template("L", v0(`msg := sprintf("%v", [data.lib])`, "package lib.b\nv = \"B\""))); err != nil {
		t.Fatal(err)
	}
	b := constraint("L", "b", map[string]any{"secret": true})
	if err := d.AddConstraint(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := d.AddData(t.Context(), target, storage.Path{"cluster", "v1", "Node", "n"}, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	got := query(t.Context(), d, review(nil), a, b)
	want := []finding{{`{"a": {"v": "A"}}`, map[string]any{}}, {`{"b": {"v": "B"}}`, map[string]any{}}}
	if diff := cmp.Diff(want, got.findings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSchemaReferences: a reference inside a JSON schema reaches neither the
// network nor the file system, not even at compile time.
func TestSchemaReferences(t *testing.T) {
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{server.URL, "file://" + file} {
		annotated := "# METADATA\n# schemas:\n#   - input: {\"$ref\": \"" + ref + "\"}\npackage k\nviolation[{\"msg\": \"m\"}] { true }"
		if err := rego.CheckTemplate(template("K", source{rego: annotated})); err != nil {
			t.Errorf("annotations are comments: %v", err)
		}
		call := v0(`json.match_schema({}, {"$ref": "` + ref + `"}); msg := "m"`)
		if err := rego.CheckTemplate(template("K", call)); err == nil || !strings.Contains(err.Error(), "json.match_schema") {
			t.Errorf("got %v, want a refusal of json.match_schema", err)
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
}
