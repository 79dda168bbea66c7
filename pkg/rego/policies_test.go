package rego

import (
	"maps"
	"slices"
	"testing"

	framework "github.com/open-policy-agent/frameworks/constraint/pkg/core/templates"
)

// exotic are policies that do what those in use do not. Their package is k;
// those of exoticV0 are in the old syntax.
var exotic = map[string]string{
	"with input": `allowed if input.review.object.kind == "Pod"
violation contains {"msg": "w"} if { not allowed with input.review.object.kind as input.review.object.metadata.name }
violation contains {"msg": m} if { m := sprintf("%v", [helper]) with input as {"review": {"object": {"a": 1}}} }
helper := object.keys(input.review.object)`,
	"with data": `names := {n | data.inventory.cluster[_][_][n]}
violation contains {"msg": m} if { m := concat(",", names) with data.inventory as {"cluster": {"v1": {"X": {"n1": {}, "n2": {}}}}} }
violation contains {"msg": m} if { m := concat(",", names) with data.inventory.cluster.v2 as {"X": {"n3": {}}} }
violation contains {"msg": concat(",", names)}`,
	"with function": `f(x) := x
g(x) := count(f(x))
violation contains {"msg": m} if { n := g("abc") with f as [1, 2]; m := sprintf("%v", [n]) }
violation contains {"msg": m} if { x := g("abc"); y := g("abc") with count as 7; m := sprintf("%v %v", [x, y]) }
mock(x) := 40 + x
violation contains {"msg": m} if { x := count([1]) with count as mocked; m := sprintf("%v", [x]) }
mocked(_) := 9`,
	"with in loop": `level := input.parameters.level
violation contains {"msg": m} if { some l in [1, 2, 3]; x := level with input.parameters.level as l; m := sprintf("%v/%v", [l, x]) }`,
	"every": `violation contains {"msg": "all named"} if { every c in input.review.object.spec.containers { is_string(c.name) } }
violation contains {"msg": "keys"} if { every k, v in input.review.object.metadata { k != "x"; v != null } }
violation contains {"msg": "nested"} if { every c in input.review.object.spec.containers { every e in object.get(c, "env", []) { e.name != "" } } }
violation contains {"msg": "empty"} if { every x in [] { x == 1 } }`,
	"not every": `violation contains {"msg": m} if { some i, c in input.review.object.spec.containers; not good(c); m := sprintf("%d", [i]) }
good(c) if { every k in ["name", "image"] { c[k] } }`,
	"else": `level(x) := "high" if { to_number(x) > 10 } else := "mid" if { to_number(x) > 5 } else := "low" if { is_number(x) } else := "none"
violation contains {"msg": m} if { walk(input.review.object, [p, v]); not is_object(v); not is_array(v); m := sprintf("%v %v", [p, level(v)]) }`,
	"else chain of documents": `default mode := "default"
mode := "a" if { input.review.object.spec.hostNetwork } else := "b" if { input.review.object.metadata.labels.app } else := "c" if { input.review.object.kind == "Pod" }
violation contains {"msg": mode}`,
	"default function": `default rank(_) := 0
rank(x) := 1 if x == "web"
rank(x) := 2 if startswith(x, "d")
violation contains {"msg": m} if { some k, v in input.review.object.metadata.labels; is_string(v); m := sprintf("%v %d", [k, rank(v)]) }`,
	"partial object": `by[name] := image if { some c in input.review.object.spec.containers; name := c.name; image := c.image }
violation contains {"msg": "m", "details": by}
violation contains {"msg": x} if { x := by[_] }`,
	"partial object conflict": `by["x"] := v if { some v in input.review.object.metadata.labels }
violation contains {"msg": "m", "details": by}`,
	"nested partial objects": `tree[a][b] := c if { some a, m in input.review.object.metadata; is_object(m); some b, c in m }
groups[k] contains v if { some c in input.review.object.spec.containers; some k, v in c }
violation contains {"msg": "m", "details": {"tree": tree}}
violation contains {"msg": sprintf("%v", [groups])}
violation contains {"msg": k} if { some k; groups[k] }`,
	"ref heads": `a.b.c := 1
a.b.d := 2 if input.review.object.kind
a.x[k] := v if { some k, v in input.review.object.metadata.labels }
violation contains {"msg": "m", "details": a}
violation contains {"msg": sprintf("%v", [a.x])}`,
	"multiple outputs conflict": `v := x if { some x in input.review.object.metadata.labels }
violation contains {"msg": v}`,
	"function conflict": `f(x) := y if { some y in x }
violation contains {"msg": sprintf("%v", [f(input.review.object.metadata.labels)])}`,
	"object comprehension": `violation contains {"msg": "m", "details": {k: v | some k, v in input.review.object.metadata.labels}}
violation contains {"msg": "n", "details": {v: k | some k, v in input.review.object.metadata.labels}}
violation contains {"msg": "o", "details": {sprintf("%v", [c]): i | some i, c in input.review.object.spec.containers}}`,
	"order of comprehensions": `violation contains {"msg": sprintf("%v", [[k | some k, _ in input.review.object.metadata]])}
violation contains {"msg": sprintf("%v", [[x | some x in {3, 1, 2, "b", "a", null, [1], {"x": 1}, {2}}]])}
violation contains {"msg": sprintf("%v", [[[a, b] | some a, m in input.review.object; some b, _ in m]])}
violation contains {"msg": sprintf("%v", [[v | walk(input.review.object.metadata, [_, v])]])}`,
	"nested order": `outer := [inner | some k, v in input.review.object.metadata; inner := [x | some x, _ in v]]
violation contains {"msg": json.marshal(outer)}`,
	"sets in sets": `s := {{1, 2}, {2, 1}, {"a": {1}}, [{1}], {{}}}
violation contains {"msg": sprintf("%v %d", [s, count(s)])}
violation contains {"msg": "member"} if { s[{2, 1}] }
violation contains {"msg": sprintf("%v", [union(x)])} if { x := {{l | some l in input.review.object.metadata.labels}, {"z"}} }
violation contains {"msg": sprintf("%v", [intersection({{1, 2, 3}, {2, 3}})])}
violation contains {"msg": sprintf("%v %v %v", [a | b, a & b, a - b])} if { a := {1, "x", input.review.object.kind}; b := {"Pod", 1.0} }`,
	"numbers": `violation contains {"msg": sprintf("%v %v %v %v", [1 == 1.0, {1, 1.0}, [1.0, 1e2, 0.1], 1000000])}
violation contains {"msg": sprintf("%v", [n + 1])} if { walk(input.review.object, [_, n]); is_number(n) }
violation contains {"msg": sprintf("%v", [[n * 3, n / 4, n - 1, abs(n), round(n), ceil(n), floor(n)]])} if { walk(input.review.object, [_, n]); is_number(n) }
violation contains {"msg": sprintf("%v", [n % 3])} if { walk(input.review.object, [_, n]); is_number(n) }
violation contains {"msg": sprintf("%v", [9007199254740993 + 9007199254740993 * 4096])}
violation contains {"msg": sprintf("%d %s %x %5d %05.1f %q %T", [n, n, n, n, n, n, n])} if { walk(input.review.object, [_, n]); is_number(n) }
violation contains {"msg": sprintf("%v", [{n: 1}])} if { walk(input.review.object, [_, n]); is_number(n) }`,
	"comparison": `vs := [v | walk(input.review.object, [_, v])]
violation contains {"msg": sprintf("%v", [sort(vs)])}
violation contains {"msg": sprintf("%v", [count([1 | some a in vs; some b in [1, "b", null, true, [], {}, 2.5]; a < b])])}
violation contains {"msg": sprintf("%v", [count([1 | some a in vs; some b in vs; a == b])])} if count(vs) < 60
violation contains {"msg": sprintf("%v %v", [max(vs), min(vs)])}`,
	"inventory lookup": `violation contains {"msg": m} if {
	other := data.inventory.namespace[input.review.object.metadata.namespace].v1.Pod[input.review.object.metadata.name]
	m := sprintf("%v", [other.metadata.name]) }
violation contains {"msg": m} if { ns := data.inventory.cluster.v1.Namespace[input.review.object.metadata.namespace]; m := sprintf("%v", [ns]) }`,
	"inventory scan": `violation contains {"msg": m} if { some ns, kinds in data.inventory.namespace; some name, o in kinds.v1.Pod
	o.spec.containers[_].image == input.review.object.spec.containers[_].image; m := sprintf("%v/%v", [ns, name]) }
violation contains {"msg": sprintf("%v", [[n | data.inventory.cluster.v1.Namespace[n]]])}
violation contains {"msg": sprintf("%v", [count(data.inventory)])}
violation contains {"msg": "m", "details": object.get(data.inventory, ["cluster", "v1"], {})}
violation contains {"msg": sprintf("%v", [object.keys(data.inventory.namespace)])}
violation contains {"msg": sprintf("%v", [[p | walk(data.inventory, [p, true])]])}`,
	"inventory by number": `violation contains {"msg": sprintf("%v", [data.inventory.cluster.v1.Numbered[1]])}
violation contains {"msg": sprintf("%v", [data.inventory.cluster.v1.Numbered.list.items[0]])}
violation contains {"msg": sprintf("%v", [data.inventory.cluster.v1.Numbered[n]])} if { n := count(input.review.object.spec.containers) }`,
	"inventory and nothing": `violation contains {"msg": "none"} if { not data.inventory.cluster.v1.Absent }
violation contains {"msg": "some"} if { data.inventory.cluster.v1.Namespace }`,
	"sprintf": `vs := [v | walk(input.review.object, [_, v])]
violation contains {"msg": sprintf("%v %s %d %q %x %t %e", [v, v, v, v, v, v, v])} if { some v in vs }
violation contains {"msg": sprintf("%d%%", [3])}
violation contains {"msg": sprintf("%[2]v %[1]v", ["a", "b"])}
violation contains {"msg": sprintf("%v", [1, 2])}
violation contains {"msg": sprintf("%v %v", [1])}
violation contains {"msg": sprintf("%", [])}
violation contains {"msg": sprintf("plain", [])}
violation contains {"msg": sprintf("%s|%10s|%-5s|%.2s", ["abc", "abc", "abc", "abc"])}
violation contains {"msg": sprintf("%v %v", [true, null])}`,
	"units": `violation contains {"msg": sprintf("%v %v", [units.parse(v), units.parse_bytes(v)])} if { walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": sprintf("%v", [units.parse("100m") + units.parse("1.5")])}`,
	"regex": `violation contains {"msg": sprintf("%v", [[regex.match(p, v), regex.split("[:/]", v), regex.find_n("[a-z]+", v, -1), regex.replace(v, "[aeiou]", "<$0>")]])} if {
	some p in ["^[a-z]+$", "[", "(?i)DOCKER", ""]; regex.is_valid(p); walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": v} if { walk(input.review.object, [_, v]); is_string(v); regex.match(v, "docker.io/a:1") }`,
	"json": `violation contains {"msg": json.marshal(json.patch(input.review.object, [{"op": "add", "path": "/x", "value": {"y": [1]}}, {"op": "remove", "path": "/metadata/labels"}]))}
violation contains {"msg": "m", "details": json.filter(input.review.object, ["metadata/labels", "spec/containers/0"])}
violation contains {"msg": "n", "details": json.remove(input.review.object, ["metadata"])}
violation contains {"msg": sprintf("%v", [json.unmarshal(v)])} if { walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": yaml.marshal(input.review.object.metadata)}
violation contains {"msg": base64.encode(json.marshal(input.review.object))}`,
	"objects": `violation contains {"msg": "m", "details": object.union(input.review.object, {"metadata": {"labels": {"a": 1}}})}
violation contains {"msg": "n", "details": object.remove(input.review.object, ["spec"])}
violation contains {"msg": "o", "details": object.filter(input.review.object, {"kind", "metadata"})}
violation contains {"msg": sprintf("%v", [object.subset(input.review.object, {"kind": "Pod"})])}
violation contains {"msg": sprintf("%v", [object.get(input.review.object, ["spec", "containers", 0, "name"], "none")])}
violation contains {"msg": sprintf("%v", [object.get(input.review.object, "kind", null)])}
violation contains {"msg": "u", "details": object.union_n([input.review.object, {"kind": {"x": {1}}}, {"kind": {"x": [1]}}])}`,
	"arrays": `cs := input.review.object.spec.containers
violation contains {"msg": sprintf("%v", [array.concat(cs, [1])])}
violation contains {"msg": sprintf("%v", [array.slice(cs, 0, 1)])}
violation contains {"msg": sprintf("%v", [array.slice(cs, -1, 100)])}
violation contains {"msg": sprintf("%v", [array.reverse(cs)])}
violation contains {"msg": sprintf("%v", [cs[count(cs) - 1]])}
violation contains {"msg": "unify"} if { [a, b] := cs; a != b }
violation contains {"msg": n} if { [{"name": n, "image": _}] = [c | c := {"name": cs[_].name, "image": 1}] }
violation contains {"msg": sprintf("%v", [numbers.range(3, -2)])}
violation contains {"msg": sprintf("%v", [numbers.range_step(0, 10, 4)])}`,
	"membership": `violation contains {"msg": "value"} if { "web" in input.review.object.metadata.labels }
violation contains {"msg": "key"} if { "app", "web" in input.review.object.metadata.labels }
violation contains {"msg": "array"} if { 1, 2 in [3, 2] }
violation contains {"msg": "set"} if { input.review.object.kind in {"Pod", "Service"} }
violation contains {"msg": "not"} if { not input.review.object.kind in {"Service"} }
violation contains {"msg": sprintf("%v", [x])} if { some x in input.review.object.metadata.labels }`,
	"strings": `violation contains {"msg": sprintf("%v", [[split(v, "/"), replace(v, "o", "0"), upper(v), lower(v), trim(v, "ab"), trim_left(v, "d"), trim_right(v, "1"), trim_prefix(v, "docker.io/"),
	trim_suffix(v, ":1"), trim_space(v), indexof(v, "o"), substring(v, 1, 3), strings.reverse(v), contains(v, "a"), startswith(v, "d"), endswith(v, "1"), count(v), strings.count(v, "o")]])} if {
	walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": sprintf("%v", [split(v, "")])} if { walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": sprintf("%v", [strings.replace_n({"a": "b", "o": "0"}, v)])} if { walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": concat("-", {v | walk(input.review.object, [_, v]); is_string(v)})}
violation contains {"msg": concat("-", [v | walk(input.review.object, [_, v])])}`,
	"conversions": `violation contains {"msg": sprintf("%v", [to_number(v)])} if { walk(input.review.object, [_, v]) }
violation contains {"msg": sprintf("%v %v", [type_name(v), p])} if { walk(input.review.object, [p, v]) }
violation contains {"msg": format_int(v, 16)} if { walk(input.review.object, [_, v]); is_number(v) }`,
	"time": `violation contains {"msg": time.format(time.parse_rfc3339_ns("2026-01-02T03:04:05Z"))}
violation contains {"msg": sprintf("%v", [time.date(1700000000000000000)])}
violation contains {"msg": sprintf("%v", [time.weekday(time.parse_rfc3339_ns(v))])} if { walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": "stable"} if { time.now_ns() == time.now_ns() }`,
	"glob and net": `violation contains {"msg": sprintf("%v", [glob.match("*.io/**", ["/"], v)])} if { walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": sprintf("%v", [net.cidr_contains("10.0.0.0/8", v)])} if { walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": sprintf("%v", [semver.compare("1.2.3", "1.10.0")])}`,
	"crypto": `violation contains {"msg": crypto.sha256(v)} if { walk(input.review.object, [_, v]); is_string(v) }
violation contains {"msg": sprintf("%v", [bits.and(5, 3)])}
violation contains {"msg": urlquery.encode(v)} if { walk(input.review.object, [_, v]); is_string(v) }`,
	"graph": `g := {k: [x | some x in object.get(v, "to", [])] | some k, v in {"a": {"to": ["b"]}, "b": {"to": ["c", "a"]}, "c": {}}}
violation contains {"msg": sprintf("%v %v", [graph.reachable(g, {"a"}), graph.reachable_paths(g, ["a"])])}`,
	"virtual documents": `import data.lib.helpers
violation contains {"msg": sprintf("%v", [helpers.double(3)])}
violation contains {"msg": sprintf("%v", [helpers.names])}
violation contains {"msg": sprintf("%v", [helpers.table[k]])} if { some k in ["a", "b", "z"] }
violation contains {"msg": sprintf("%v", [data.lib.helpers])} if { count(helpers.names) >= 0 }
violation contains {"msg": sprintf("%v %v", [k, v])} if { some k, v in data.lib.helpers.table }`,
	"print": `violation contains {"msg": m} if { print("x", input.review.object.nothing, data.inventory); m := "printed" }`,
	"negation": `p contains x if { some x in input.review.object.metadata.labels }
violation contains {"msg": "none"} if { not p["web"] }
violation contains {"msg": "no x"} if { not input.review.object.spec.x }
violation contains {"msg": "double"} if { not not_pod }
not_pod if { not input.review.object.kind == "Pod" }
violation contains {"msg": "falsy"} if { not input.review.object.spec.hostNetwork }`,
	"null and false": `violation contains {"msg": sprintf("%v", [k])} if { some k; input.review.object.metadata[k] == null }
violation contains {"msg": "null is defined"} if { input.review.oldObject == null }
violation contains {"msg": sprintf("%v", [{null: 1}])}
violation contains {"msg": sprintf("%v", [[x | x := input.review.object[_]; x == false]])}`,
	"odd findings": `violation contains x if { some x in input.review.object.spec.containers; not x.image }
violation contains {"msg": input.review.object.kind}
violation contains {"msg": 1} if { input.review.object.metadata.labels.app == "number" }`,
	"details of everything": `violation contains {"msg": "m", "details": {"s": {1, "a", {2}}, "o": {1: 2, [3]: 4}, "n": null, "a": [input.review.object]}}`,
	"unification": `violation contains {"msg": sprintf("%v %v", [x, y])} if { {"metadata": {"name": x}, "kind": y} = {"metadata": {"name": input.review.object.metadata.name}, "kind": input.review.object.kind} }
violation contains {"msg": sprintf("%v", [z])} if { [input.review.object.kind, z] = ["Pod", input.review.object.metadata.labels] }
violation contains {"msg": k} if { input.review.object.metadata.labels[k] = "web" }
violation contains {"msg": "obj"} if { {"app": "web"} = input.review.object.metadata.labels }`,
	"memoized": `f(x, y) := count(x) + y
violation contains {"msg": sprintf("%v", [[f(a, b) | some a in ["x", "yy", [1, 2, 3], {"a": 1}, {1}, "x"]; some b in [1, 1.0, 2]]])}
violation contains {"msg": sprintf("%v", [[f([], 1), f({}, 1), f("", 1), f({1 | false}, 1)]])}`,
	"walk in walk": `violation contains {"msg": sprintf("%v %v", [p, q])} if { walk(input.review.object.metadata, [p, x]); walk(x, [q, y]); is_string(y) }
violation contains {"msg": sprintf("%v", [p])} if { walk(input.review.object, [p, "web"]) }
violation contains {"msg": sprintf("%v", [v])} if { walk(input.review.object, [["metadata", "labels", k], v]) }
violation contains {"msg": sprintf("%v", [walk([1, {"a": 2}])])} if false`,
	"interpolation": `violation contains {"msg": $"kind {input.review.object.kind} of {input.review.object.metadata.name}, labels {input.review.object.metadata.labels}"}`,
}

// exoticV0 are policies in Rego's old syntax.
var exoticV0 = map[string]string{
	"old sets": `names[n] { n := input.review.object.spec.containers[_].name }
violation[{"msg": msg, "details": {"names": names}}] { count(names) > 0; msg := sprintf("%v", [names]) }`,
	"old functions": `f(x) = y { y := x.name } else = "none" { true }
violation[{"msg": f(c)}] { c := input.review.object.spec.containers[_] }`,
	"old default": `default allow = false
allow { input.review.object.metadata.labels.app == "web" }
violation[{"msg": "denied"}] { not allow }
violation[{"msg": sprintf("%v", [allow])}]`,
	"old any and all": `violation[{"msg": sprintf("%v %v", [any([x | x := input.review.object.spec.containers[_].ok]), all({x | x := input.review.object.spec.containers[_].ok})])}] { true }
violation[{"msg": "re"}] { re_match("^d", input.review.object.spec.containers[_].image) }
violation[{"msg": sprintf("%v", [cast_array(input.review.object.metadata.labels)])}] { true }`,
	"old partial object":  `violation[k] = v { v := input.review.object.kind; k := {"msg": "key", "details": {"v": v}} }`,
	"old iteration":       `violation[{"msg": sprintf("%v %v %v", [i, k, v])}] { v := input.review.object.spec.containers[i][k] }`,
	"old set as function": `p[[x, y]] { x := input.review.object.spec.containers[y].name } violation[{"msg": z}] { p[[z, 0]] } violation[{"msg": sprintf("%v", [q])}] { p[["a", q]] }`,
	"old some and with":   `helper = x { x := input.parameters.a } violation[{"msg": sprintf("%v", [y])}] { some i; v := input.review.object.spec.containers[i]; y := helper with input.parameters as {"a": v.name} }`,
}

// helpers is the library that some of them import.
const helpers = `package lib.helpers
double(x) := x * 2
names := [c.name | some c in input.review.object.spec.containers]
table["a"] := 1
table["b"] := 2 if input.review.object.kind == "Pod"
table[k] := v if { some k, v in input.review.object.metadata.labels; not k in {"a", "b"} }`

func exoticTemplate(version, rego string, libs ...any) *framework.ConstraintTemplate {
	out := &framework.ConstraintTemplate{}
	out.Spec.CRD.Spec.Names.Kind = "K"
	out.Spec.Targets = []framework.Target{{Code: []framework.Code{{Engine: "Rego", Source: &framework.Anything{
		Value: map[string]any{"version": version, "rego": "package k\n" + rego, "libs": libs},
	}}}}}
	return out
}

// subjects are what exotic policies are tried on.
func subjects(t testing.TB) sample {
	t.Helper()
	s := sample{inventory: map[string]any{}, parameters: []any{map[string]any{"a": "b", "level": int64(3)}, map[string]any{}}}
	for _, name := range []string{
		"allowedregistries/samples/disallowed.yaml", "requiredlabels/samples/disallowed.yaml", "capabilities/samples/disallowed-cronjob.yaml",
	} {
		s.reviews = append(s.reviews, created(readYAML(t, name)))
	}
	for _, object := range []map[string]any{
		{"kind": "Pod", "metadata": map[string]any{"name": "p", "namespace": "ns", "labels": map[string]any{"app": "web"}}, "spec": map[string]any{
			"containers": []any{map[string]any{"name": "a", "image": "docker.io/a:1", "ok": true}, map[string]any{"name": "b", "image": "quay.io/b", "ok": false}}}},
		{"kind": "Pod", "metadata": map[string]any{"name": "q", "x": nil, "labels": map[string]any{"app": "web", "tier": "db", "n": int64(1000000)}, "finalizers": []any{}},
			"spec": map[string]any{"hostNetwork": false, "replicas": 1.5, "containers": []any{map[string]any{"name": "a", "limits": map[string]any{"cpu": "100m", "memory": "1Gi"}}}}},
		{"metadata": "text", "spec": []any{int64(1), int64(2), map[string]any{"containers": true}, nil, 1e21, int64(1)<<62 + 1}},
		{},
	} {
		s.reviews = append(s.reviews, created(object))
		object := clone(object).(map[string]any)
		s.inventory["namespace|ns|v1|Pod|"+textOf(valueAt(object, "metadata", "name"))] = object
	}
	s.inventory["namespace|ns|v1|Pod|p"] = s.reviews[3]["object"]
	s.inventory["cluster|v1|Namespace|ns"] = map[string]any{"metadata": map[string]any{"name": "ns"}}
	s.inventory["cluster|v1|Namespace|other"] = map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": true}}}
	s.inventory["cluster|v1|Numbered|1"] = map[string]any{"one": int64(1)}
	s.inventory["cluster|v1|Numbered|list"] = map[string]any{"items": []any{"x", "y"}}
	return s
}

// TestExotic compares the evaluators on policies that do what others do not.
func TestExotic(t *testing.T) {
	c := &comparison{}
	s := subjects(t)
	each := *evaluations / 2 / (len(exotic) + len(exoticV0))
	for i, name := range slices.Sorted(maps.Keys(exotic)) {
		c.exotic(t, name, exoticTemplate("v1", exotic[name], helpers), s, uint64(i), each)
	}
	for i, name := range slices.Sorted(maps.Keys(exoticV0)) {
		c.exotic(t, name, exoticTemplate("v0", exoticV0[name]), s, uint64(1000+i), each)
	}
	t.Log(c)
	if c.refused > 0 {
		t.Errorf("%d of these policies are refused: they compare nothing", c.refused)
	}
}

func (c *comparison) exotic(t *testing.T, name string, template *framework.ConstraintTemplate, s sample, seed uint64, n int) {
	t.Run(name, func(t *testing.T) {
		found := c.found
		c.vary(t, name, c.program(t, template), s, seed, n)
		if c.found == found && name != "partial object conflict" {
			t.Errorf("%s found nothing: it compares nothing", name)
		}
	})
}
