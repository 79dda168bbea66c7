package rego_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/rego"
)

func none() map[string]any { return map[string]any{} }

func TestEvaluate(t *testing.T) {
	labels := map[string]any{"labels": map[string]any{"a": "1", "b": "2"}, "replicas": int64(1000000), "big": int64(9007199254740993), "half": 0.5}
	cases := map[string]struct {
		reason string
		source source
		want   []finding
	}{
		"Nothing": {"no violation", v0(`msg := "m"; false`), nil},
		"One":     {"details default to {}", v0(`msg := "m"`), []finding{{"m", none()}}},
		"Several": {
			"one for each solution, ordered", v0(`input.review.object.labels[msg]`), []finding{{"a", none()}, {"b", none()}},
		},
		"SeveralRules": {
			"rules of one name add up",
			source{rego: "package k\nviolation[{\"msg\": \"b\"}] { true }\nviolation[{\"msg\": \"a\"}] { true }"},
			[]finding{{"a", none()}, {"b", none()}},
		},
		"Duplicates": {
			"what is found twice is reported once",
			v0(`input.review.object.labels[_]; msg := "same"`), []finding{{"same", none()}},
		},
		"DuplicateAcrossRules": {
			"also by two rules",
			source{rego: "package k\nviolation[{\"msg\": \"a\"}] { true }\nviolation[{\"msg\": m}] { m := concat(\"\", [\"a\"]) }"},
			[]finding{{"a", none()}},
		},
		"Details": {
			"details are decoded JSON and tell findings with one message apart",
			source{rego: "package k\nviolation[{\"msg\": \"m\", \"details\": {\"label\": l}}] { input.review.object.labels[l] }"},
			[]finding{{"m", map[string]any{"label": "a"}}, {"m", map[string]any{"label": "b"}}},
		},
		"DetailsOfAnyType": {
			"details need not be an object",
			source{rego: "package k\nviolation[{\"msg\": \"m\", \"details\": [\"x\", null, true]}] { true }"},
			[]finding{{"m", []any{"x", nil, true}}},
		},
		"DetailsSet": {
			"a set is an array in JSON",
			source{rego: "package k\nviolation[{\"msg\": \"m\", \"details\": {\"b\", \"a\"}}] { true }"},
			[]finding{{"m", []any{"a", "b"}}},
		},
		"FurtherFields": {
			"fields beside msg and details are ignored",
			source{rego: "package k\nviolation[{\"msg\": \"m\", \"severity\": 5}] { true }"}, []finding{{"m", none()}},
		},
		"Numbers": {
			"numbers read as they are written",
			v0(`o := input.review.object; msg := sprintf("%v %v %v", [o.replicas, o.big, o.half])`),
			[]finding{{"1000000 9007199254740993 0.5", none()}},
		},
		"Arithmetic": {
			"and survive arithmetic",
			v0(`o := input.review.object; msg := sprintf("%v %d", [o.replicas * 1000, o.big + 1])`),
			[]finding{{"1000000000 9007199254740994", none()}},
		},
		"CompleteSet": {
			"a complete rule may be a set too",
			source{rego: "package k\nviolation = {{\"msg\": \"m\"}} { true }"}, []finding{{"m", none()}},
		},
		"PartialObject": {
			"of a partial object the key counts, as in Gatekeeper",
			source{rego: "package k\nviolation[k] = v { k := {\"msg\": \"key\"}; v := {\"msg\": \"value\"} }"}, []finding{{"key", none()}},
		},
		"V1": {"v1", v1(`some msg in ["b", "a"]`), []finding{{"a", none()}, {"b", none()}}},
		"V1EveryAndIn": {
			"v1 keywords work",
			v1(`every v in input.review.object.labels { v != "3" }; msg := "m"`), []finding{{"m", none()}},
		},
		"Default": {
			"helpers and defaults",
			source{rego: "package k\ndefault limit = 3\nlimit = x { x := input.parameters.limit }\nviolation[{\"msg\": m}] { m := sprintf(\"%v\", [limit]) }"},
			[]finding{{"3", none()}},
		},
		"BuiltinError": {
			"a builtin's error makes its rule undefined, as in OPA",
			v0(`x := to_number("many"); msg := sprintf("%v", [x])`), nil,
		},
		"EmptyMessage": {"an empty message is a message", v0(`msg := ""`), []finding{{"", none()}}},
		"Parameters": {
			"parameters are {} when there are none", v0(`msg := sprintf("%v", [input.parameters])`), []finding{{"{}", none()}},
		},
		"NoOldObject": {
			"what is not there is null", v0(`input.review.oldObject == null; msg := "m"`), []finding{{"m", none()}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, verdict(t, tc.source, nil, labels)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestLibraries: a library is reached by import and by its full name, wherever
// in a term it stands.
func TestLibraries(t *testing.T) {
	libs := []string{
		"package lib.x\nimport data.lib.y\nv = \"v\"\nm = {\"v\": \"m\"}\nf(a) = y.g(a)",
		"package lib.y\ng(a) = concat(\"\", [\"<\", a, data.lib.x.v, \">\"])",
	}
	cases := map[string]struct {
		body string
		want string
	}{
		"Call":           {`msg := data.lib.x.f("a")`, "<av>"},
		"CallUnified":    {`data.lib.x.f("a", msg)`, "<av>"},
		"CallInCall":     {`msg := upper(data.lib.x.f("a"))`, "<AV>"},
		"Ref":            {`msg := data.lib.x.v`, "v"},
		"InArray":        {`msg := [data.lib.x.v][0]`, "v"},
		"InObject":       {`msg := {"k": data.lib.x.v}.k`, "v"},
		"InRef":          {`msg := data.lib.x.m[data.lib.x.v]`, "m"},
		"InSet":          {`{data.lib.x.v}[msg]`, "v"},
		"InArgument":     {`msg := concat("", [data.lib.x.v, "!"])`, "v!"},
		"Comprehension":  {`msg := concat("", [y | y := data.lib.x.v])`, "v"},
		"NegatedCount":   {`not count([data.lib.x.v]) == 0; msg := "m"`, "m"},
		"Mocked":         {`msg := data.lib.x.v with data.lib.x.v as "mock"`, "mock"},
		"MockedByNested": {`msg := data.lib.x.v with data.lib.x.v as [data.lib.x.m.v][0]`, "m"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			want := []finding{{tc.want, none()}}
			if diff := cmp.Diff(want, verdict(t, v0(tc.body, libs...), nil, none())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("V1Text", func(t *testing.T) {
		s := v1(`msg := $"{data.lib.x.v}!"`, "package lib.x\nv := \"v\"")
		if diff := cmp.Diff([]finding{{"v!", none()}}, verdict(t, s, nil, none())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("Import", func(t *testing.T) {
		s := source{rego: "package k\nimport data.lib.x as z\nviolation[{\"msg\": m}] { m := z.f([z.v][0]) }", libs: libs}
		if diff := cmp.Diff([]finding{{"<vv>", none()}}, verdict(t, s, nil, none())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestParameters(t *testing.T) {
	show := v0(`msg := sprintf("%v", [input.parameters])`)
	cases := map[string]struct {
		reason string
		spec   any
		want   string
	}{
		"NoSpec":       {"none", nil, "{}"},
		"NoParameters": {"none", map[string]any{}, "{}"},
		"Null":         {"null counts as none", map[string]any{"parameters": nil}, "{}"},
		"Empty":        {"empty", map[string]any{"parameters": map[string]any{}}, "{}"},
		"Some":         {"integers stay integers", map[string]any{"parameters": map[string]any{"n": int64(1000000)}}, `{"n": 1000000}`},
		"SpecIsText":   {"no parameters in there", "text", "{}"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d, c := newDriver(t, show, nil)
			c.Object["spec"] = tc.spec
			if err := d.AddConstraint(t.Context(), c); err != nil {
				t.Fatalf("adding the constraint: %v", err)
			}
			got := query(t.Context(), d, review(nil), c)
			if diff := cmp.Diff([]finding{{tc.want, none()}}, got.findings); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	cases := map[string]struct {
		reason string
		source source
		cause  policy.FaultCause
		text   string
	}{
		"ConflictOfValues": {
			"two values of one complete rule",
			source{rego: "package k\nv = x { input.review.object.l[x] }\nviolation[{\"msg\": v}] { true }"},
			policy.CauseInput, `rule data.template.v produced conflicting values: "a" at rego:2 "b" at rego:2`,
		},
		"ConflictOfKeys": {
			"two values of one key",
			source{rego: "package k\nm[\"k\"] = x { input.review.object.l[x] }\nviolation[{\"msg\": m.k}] { true }"},
			policy.CauseInput, "rule data.template.m.k produced conflicting values",
		},
		"ConflictOfFunctions": {
			"two results of one function",
			source{rego: "package k\nf(a) = x { input.review.object.l[x] }\nviolation[{\"msg\": f(1)}] { true }"},
			policy.CauseInput, "function data.template.f produced conflicting values",
		},
		"NoMessage": {
			"a violation without a message is not dropped",
			source{rego: "package k\nviolation[{\"message\": \"m\"}] { true }"}, policy.CauseInput, "fired without a string msg",
		},
		"MessageOfInput": {
			"the object decides on the type of the message",
			source{rego: "package k\nviolation[{\"msg\": x}] { x := input.review.object.l }"}, policy.CauseInput, "msg is",
		},
		"OneBadOfTwo": {
			"half a verdict is none",
			source{rego: "package k\nviolation[{\"msg\": \"m\"}] { true }\nviolation[{\"msg\": 1}] { true }"}, policy.CauseInput, "msg is 1",
		},
		"NotAnObject": {"a bare message", source{rego: "package k\nviolation[\"m\"] { true }"}, policy.CauseInput, `it gave "m"`},
		"Array":       {"an array", source{rego: "package k\nviolation = [{\"msg\": \"m\"}] { true }"}, policy.CauseInput, "it gave 0"},
		"Complete":    {"an object", source{rego: "package k\nviolation = {\"msg\": \"m\"} { true }"}, policy.CauseInput, `it gave "msg"`},
		"SubRule":     {"violation.x", source{version: "v1", rego: "package k\nviolation.x contains {\"msg\": \"m\"} if { true }"}, policy.CauseInput, `it gave "x"`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := failure(t, tc.source, map[string]any{"l": map[string]any{"a": true, "b": true}})
			if f.Cause != tc.cause || !strings.Contains(f.Err.Error(), tc.text) {
				t.Errorf("%s: got %s fault: %v, want %s with %q", tc.reason, f.Cause, f.Err, tc.cause, tc.text)
			}
		})
	}
}

// TestFaultText: what an object brings about is shown on one line, in part.
func TestFaultText(t *testing.T) {
	f := failure(t, source{rego: "package k\nviolation[{\"msg\": x}] { x := input.review.object.l }"},
		map[string]any{"l": []any{strings.Repeat("\u00e9\n", 5000)}})
	text := f.Err.Error()
	if len(text) > 600 || strings.Contains(text, "\n") || !strings.HasSuffix(text, "...") || !utf8.ValidString(text) {
		t.Errorf("got %d bytes: %q", len(text), text)
	}
}

// TestFaultIsOfOneConstraint: the others are judged.
func TestFaultIsOfOneConstraint(t *testing.T) {
	d, broken := newDriver(t, source{rego: "package k\nviolation[{\"msg\": 1}] { true }"}, nil)
	if err := d.AddTemplate(t.Context(), template("L", v0(`msg := "m"`))); err != nil {
		t.Fatal(err)
	}
	good := constraint("L", "good", nil)
	if err := d.AddConstraint(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	got := query(t.Context(), d, review(nil), broken, good)
	if diff := cmp.Diff([]finding{{"m", none()}}, got.findings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got.faults) != 1 || got.evaluated != 1 || got.faults[0].Cause != policy.CauseInput {
		t.Errorf("got %+v, want a fault of the broken and one verdict", got)
	}
}

// endless are policies that would run for hours.
var endless = map[string]source{
	"Loops": v0(`x := numbers.range(1, 3000)[_]; y := numbers.range(1, 3000)[_]; z := numbers.range(1, 3000)[_]; x + y + z < 0; msg := "m"`),
	"Comprehension": v0(
		`n := numbers.range(1, 2000); s := {p | x := n[_]; y := n[_]; z := n[_]; p := (x * y) * z}; count(s) == 7; msg := "m"`),
	"Function": {rego: `package k
f(n) = m { m := count([1 | a := numbers.range(1, n)[_]; b := numbers.range(1, n)[_]; a * b == 7]) }
violation[{"msg": "m"}] { x := numbers.range(1, 100000)[_]; f(x + 500) == 0 }`},
	"WalkInWalk": v0(`o := input.review.object; walk(o, [p, x]); walk(o, [q, y]); walk(o, [r, z]); p == q; q == r; x != y; msg := "m"`),
}

// TestDeadline: an evaluation ends soon after its deadline and the rest is not
// begun.
func TestDeadline(t *testing.T) {
	const allowed, grace = 50 * time.Millisecond, 500 * time.Millisecond
	for name, s := range endless {
		t.Run(name, func(t *testing.T) {
			d, first := newDriver(t, s, nil)
			second := constraint("K", "second", nil)
			if err := d.AddConstraint(t.Context(), second); err != nil {
				t.Fatal(err)
			}
			r := review(deep(500))
			query(canceled(t), d, r, first)
			ctx, cancel := context.WithTimeout(t.Context(), allowed)
			defer cancel()
			start := time.Now()
			got := query(ctx, d, r, first, second)
			over := time.Since(start) - allowed
			t.Logf("%s over the deadline", over)
			if over > grace {
				t.Errorf("took %s more than allowed", over)
			}
			if len(got.faults) != 2 || got.evaluated != 0 || len(got.findings) != 0 {
				t.Fatalf("got %+v, want two faults and no verdict", got)
			}
			for _, f := range got.faults {
				if f.Cause != policy.CauseTimeout {
					t.Errorf("got %s fault %v, want a time-out", f.Cause, f.Err)
				}
			}
		})
	}
}

func deep(levels int) map[string]any {
	o := map[string]any{}
	for range levels {
		o = map[string]any{"a": o, "b": []any{int64(1), int64(2)}}
	}
	return o
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// TestCanceled: nothing is evaluated for a client that has gone.
func TestCanceled(t *testing.T) {
	d, c := newDriver(t, v0(`msg := "m"`), nil)
	got := query(canceled(t), d, review(nil), c)
	if len(got.faults) != 1 || got.faults[0].Cause != policy.CauseTimeout || !errors.Is(got.faults[0].Err, context.Canceled) {
		t.Errorf("got %+v, want one time-out", got)
	}
}

// TestDeepObject: nesting as deep as the API server takes is judged.
func TestDeepObject(t *testing.T) {
	s := v0(`n := count([1 | walk(input.review.object, [_, x])]); msg := sprintf("%v", [n])`)
	got := verdict(t, s, nil, deep(3000))
	if diff := cmp.Diff([]finding{{"12001", none()}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTemplatesKeepApart: what a library's rules come to for one template is
// not taken for another's, whose library has the same name.
func TestTemplatesKeepApart(t *testing.T) {
	d := drive(rego.New())
	var cs []*unstructured.Unstructured
	for _, word := range []string{"first", "second"} {
		s := v0(`msg := concat("", [data.lib.x.f(1), data.lib.x.v])`, fmt.Sprintf("package lib.x\nv = %q\nf(_) = %q", word, word))
		if err := d.AddTemplate(t.Context(), template(word, s)); err != nil {
			t.Fatal(err)
		}
		c := constraint(word, "c", nil)
		if err := d.AddConstraint(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	var got []string
	for _, f := range query(t.Context(), d, review(map[string]any{}), cs...).findings {
		got = append(got, f.Msg)
	}
	if diff := cmp.Diff([]string{"firstfirst", "secondsecond"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
