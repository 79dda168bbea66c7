package manifest_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/manifest"
)

func TestLists(t *testing.T) {
	cases := map[string]struct {
		reason, text string
		want         []string
	}{
		"Kubectl": {
			reason: "As kubectl writes one: the items at the margin, what the list is after them.",
			text: `apiVersion: v1
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: a
  spec:
    args:
    - |
      - apiVersion: v1
- apiVersion: v1
  kind: Pod
  metadata:
    name: b
kind: List
metadata:
  resourceVersion: ""
`,
			want: []string{"v1 Pod a at list.yaml:3", "v1 Pod b at list.yaml:11"},
		},
		"Indented": {
			reason: "As people write one.",
			text:   "kind: List\napiVersion: v1\nitems:\n  - kind: Pod\n    apiVersion: v1\n    metadata: {name: a}\n\n  - {kind: Pod, apiVersion: v1, metadata: {name: b}}\n",
			want:   []string{"v1 Pod a at list.yaml:4", "v1 Pod b at list.yaml:8"},
		},
		"Typed": {
			reason: "The items of a typed list need not say what they are.",
			text:   "apiVersion: apps/v1\nkind: DeploymentList\nitems:\n- metadata:\n    name: a\n- metadata:\n    name: b\n",
			want:   []string{"apps/v1 Deployment a at list.yaml:4", "apps/v1 Deployment b at list.yaml:6"},
		},
		"TypedIndented": {
			reason: "Nor if they are written in another way.",
			text:   "apiVersion: apps/v1\nkind: DeploymentList\nitems: [{metadata: {name: a}}]\n",
			want:   []string{"apps/v1 Deployment a at list.yaml:3"},
		},
		"JSON": {
			reason: "As the API server writes one.",
			text:   "{\n \"kind\": \"PodList\",\n\t\"apiVersion\": \"v1\",\n \"items\": [\n  {\"metadata\": {\"name\": \"a\"}},\n  {\"metadata\":\n   {\"name\": \"b\"}}]}",
			want:   []string{"v1 Pod a at list.yaml:5", "v1 Pod b at list.yaml:6"},
		},
		"Nested": {
			reason: "A list may hold another.",
			text:   "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: v1\n    kind: Pod\n    metadata: {name: a}\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: b}\n",
			want:   []string{"v1 Pod a at list.yaml:7", "v1 Pod b at list.yaml:10"},
		},
		"Broken": {
			reason: "A broken item costs itself only, as far as the items can be told apart.",
			text:   "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: [\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: b}\n- 7\n- apiVersion: v1\n",
			want: []string{
				"list.yaml:5: reading YAML: did not find expected node content", "v1 Pod b at list.yaml:6",
				"list.yaml:9: an item of this List is no object", "list.yaml:10: kind: is missing: add it",
			},
		},
		"Anchors": {
			reason: "What one item names, another may use.",
			text:   "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a, labels: &l {x: y}}\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: b, labels: *l}\n",
			want:   []string{"v1 Pod a at list.yaml:4", "v1 Pod b at list.yaml:7"},
		},
		"Empty": {
			reason: "A list of nothing is not nothing: a cluster may have none.",
			text:   "apiVersion: v1\nkind: List\nitems: []\n",
		},
		"NotAList": {
			reason: "An object may be called a list, and have items.",
			text:   "apiVersion: example.com/v1\nkind: AllowList\nmetadata:\n  name: a\nitems:\n- x: 1\n",
			want:   []string{"example.com/v1 AllowList a at list.yaml:1"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder(t, map[string]string{"list.yaml": c.text}), "list.yaml")
			var got []string
			for o, err := range manifest.Read(t.Context(), manifest.Options{Paths: []string{path}}) {
				if err != nil {
					got = append(got, strings.TrimPrefix(err.Error(), filepath.Dir(path)+"/"))
					continue
				}
				got = append(got, fmt.Sprintf("%s %s at %s:%d", o.GetAPIVersion(), manifest.Name(o.Unstructured), filepath.Base(o.File), o.Line))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s\n(-want +got)\n%s", c.reason, diff)
			}
		})
	}
}

// TestDecoded checks that values are those that an API server would decode.
func TestDecoded(t *testing.T) {
	text := "apiVersion: v1\nkind: Pod\nspec: {a: 1, b: 1.5, c: yes, d: \"yes\", e: 12345678901234567, f: ~, g: 0o17, h: 017}\n"
	want := map[string]any{"a": int64(1), "b": 1.5, "c": true, "d": "yes", "e": int64(12345678901234567), "f": nil, "g": int64(15), "h": int64(15)}
	for o, err := range manifest.Read(t.Context(), manifest.Options{Paths: []string{"-"}, Stdin: strings.NewReader(text)}) {
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, o.Object["spec"]); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestFieldLine(t *testing.T) {
	const spec = "spec:\n  containers:\n  - name: x\n    image: &i y\n  - name: z\n    image: *i\n"
	texts := map[string]string{
		"YAML":  "# c\n---\n\n" + pod + "a\n" + spec,
		"List":  "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(pod+"a\n"+strings.ReplaceAll(strings.ReplaceAll(spec, "&i ", ""), "*i", "y"), "\n", "\n  "),
		"Other": "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(pod+"a\n"+spec, "\n", "\n  "),
		"JSON":  "{\n\n\"apiVersion\":\"v1\",\n\"kind\":\"Pod\",\n\"metadata\":{\"name\":\"a\"},\n\t\"spec\":{\n\"containers\":[\n{\"name\":\"x\",\n\"image\":\"y\"},{\"name\":\"z\",\n\"image\":\"y\"}]}}",
	}
	cases := map[string]struct {
		path []string
		want map[string]int
	}{
		"Object":  {nil, map[string]int{"YAML": 4, "List": 4, "Other": 4, "JSON": 1}},
		"Name":    {[]string{"metadata", "name"}, map[string]int{"YAML": 7, "List": 7, "Other": 7, "JSON": 5}},
		"Element": {[]string{"spec", "containers", "1"}, map[string]int{"YAML": 12, "List": 12, "Other": 12, "JSON": 9}},
		"Image":   {[]string{"spec", "containers", "1", "image"}, map[string]int{"YAML": 13, "List": 13, "Other": 13, "JSON": 10}},
		"Absent":  {[]string{"spec", "volumes", "0"}, map[string]int{"YAML": 8, "List": 8, "Other": 8, "JSON": 6}},
	}
	for format, text := range texts {
		for o, err := range manifest.Read(t.Context(), manifest.Options{Paths: []string{"-"}, Stdin: strings.NewReader(text)}) {
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			for name, c := range cases {
				if got := o.FieldLine(c.path...); got != c.want[format] {
					t.Errorf("%s: %s is at line %d, want %d", format, name, got, c.want[format])
				}
			}
		}
	}
}

// TestTooLarge throws away a document that no API server takes, and goes on.
func TestTooLarge(t *testing.T) {
	text := pod + "a\n---\n" + pod + "b\nspec: \"" + strings.Repeat("x", 65<<20) + "\"\n---\n" + pod + "c\n"
	got := transcript(t, "?", manifest.Options{Paths: []string{"-"}, Stdin: strings.NewReader(text)})
	want := []string{
		"Pod a at stdin:1",
		`error: stdin:5: this document has more than 64 MiB: put "---" between the objects, or give them in several files`,
		"Pod c at stdin:12",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
